//! Files of text: read whole, and where one is no UTF-8, which byte it is and what to do, without a word that could
//! destroy the file.

use std::{fs, io, path::Path};

/// The text of a file, or why there is none.
pub(crate) fn read(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("failed to read {}: {error}", path.display()))?;
    decode(&path.display().to_string(), bytes)
}

/// All of standard input.
pub(crate) fn read_stdin(name: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    let read = io::Read::read_to_end(&mut io::stdin(), &mut bytes);
    read.map_err(|error| format!("failed to read standard input: {error}"))?;
    decode(name, bytes)
}

fn decode(name: &str, bytes: Vec<u8>) -> Result<String, String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(format!("{name}: expected UTF-8, found UTF-16: save it as UTF-8"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let before = std::str::from_utf8(&bytes[..valid]).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, str::len) + 1;
        let wrong = bytes[valid];
        format!(
            "{name}:{line}: expected UTF-8, found the byte 0x{wrong:02x} (the {column}. of the line): save the file as \
             UTF-8, it may be Latin-1 or Windows-1252 now"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_utf_8_is_told_with_its_place() {
        assert_eq!(decode("f", b"\xef\xbb\xbfa: 1\n".to_vec()).as_deref(), Ok("\u{feff}a: 1\n"));
        assert_eq!(
            decode("f", b"a: 1\nsite: M\xfcnchen\n".to_vec()).unwrap_err(),
            "f:2: expected UTF-8, found the byte 0xfc (the 8. of the line): save the file as UTF-8, it may be Latin-1 or \
             Windows-1252 now"
        );
        assert_eq!(
            decode("f", b"\xff\xfea\0".to_vec()).unwrap_err(),
            "f: expected UTF-8, found UTF-16: save it as UTF-8"
        );
    }
}
