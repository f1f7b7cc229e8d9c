//! Bytes in little space: gzip, with a bound on what comes out again.

use std::io::{self, Read as _, Write as _};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};

/// The same in less space.
pub(crate) fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes all that is written")
}

/// What was packed.
///
/// # Errors
///
/// When it is not whole, or has more than `most` bytes.
pub(crate) fn unpack(packed: &[u8], most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    GzDecoder::new(packed).take(most + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(io::Error::other(format!("expected at most {most} bytes, found more")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_comes_out_again_and_no_more_than_is_allowed() {
        let bytes = vec![7; 1_000];
        let packed = pack(&bytes);
        assert!(packed.len() < 100, "{}", packed.len());
        assert_eq!(unpack(&packed, 1_000).unwrap(), bytes);
        assert!(unpack(&packed, 999).is_err() && unpack(&packed[..20], 1_000).is_err() && unpack(&[], 9).is_err());
    }
}
