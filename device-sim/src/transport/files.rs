//! Room for connections in the process's table of open files.
//!
//! Linux doubles that table whenever it is full. In a process with threads, whoever opened the file that did not fit
//! stands still until every core has let go of the old table (`expand_fdtable` in the kernel's `fs/file.c`): 15 to 45 ms
//! at each of 256, 512, 1,024, … files, in which a thread of the engine sends nothing. A table that was made large enough
//! before stays so.

use std::{fs::File, io};

use rlimit::Resource;
use rustix::io::fcntl_dupfd_cloexec;

/// What a process has open beside its connections.
const OTHERS: u32 = 128;

/// Makes room for so many connections, as far as the process may have them. May take as long as a doubling does, once.
pub fn make_room(connections: u32) {
    // Without room connections are opened as well, only not as fast.
    if let Err(error) = reach(u64::from(connections) + u64::from(OTHERS)) {
        tracing::debug!(%error, connections, "the table of open files stays as it is");
    }
}

/// A duplicate with the last of these numbers makes the table so large.
fn reach(files: u64) -> io::Result<()> {
    let last = files.min(Resource::NOFILE.get_soft()?).saturating_sub(1);
    let last = i32::try_from(last).map_err(io::Error::other)?;
    drop(fcntl_dupfd_cloexec(File::open("/dev/null")?, last)?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// For how many files the kernel has room, by proc(5).
    fn room() -> u64 {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        status.lines().find_map(|line| line.strip_prefix("FDSize:")?.trim().parse().ok()).unwrap()
    }

    #[test]
    fn room_is_made_at_once_and_stays() {
        make_room(700);
        let made = room();
        assert!(made >= 700, "{made}");
        make_room(10);
        assert!(room() >= made);
    }
}
