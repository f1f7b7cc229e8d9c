//! Long parts of one command, done side by side, with a line every ten seconds on how far each is.

use std::{
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use ::tests::progress::Progress;
use anyhow::{Result, anyhow};

/// How often each part that goes on is shown.
const PAUSE: Duration = Duration::from_secs(10);

/// Does both parts, each with a name for people.
///
/// # Errors
/// The first part's error or else the second's, once both have ended.
pub(super) fn at_once<A: Send, B: Send>(
    first: (&str, impl FnOnce(&Progress) -> Result<A> + Send),
    second: (&str, impl FnOnce(&Progress) -> Result<B> + Send),
) -> Result<(A, B)> {
    let (start, mut going) = (Instant::now(), Vec::new());
    let (ended, ends) = channel();
    thread::scope(|scope| {
        let mut begin = |name: &str| {
            let progress = Progress::default();
            going.push((name.to_owned(), progress.clone()));
            (name.to_owned(), progress, ended.clone())
        };
        let ((name, progress, end), work) = (begin(first.0), first.1);
        let first = scope.spawn(move || {
            let result = work(&progress);
            // Fails only when nobody looks any more.
            drop(end.send((name, result.is_ok())));
            result
        });
        let ((name, progress, end), work) = (begin(second.0), second.1);
        let second = scope.spawn(move || {
            let result = work(&progress);
            drop(end.send((name, result.is_ok())));
            result
        });
        drop(ended);
        while !going.is_empty() {
            match ends.recv_timeout(PAUSE) {
                Ok((name, success)) => {
                    say(start, &format!("{name}: {}", if success { "done" } else { "failed" }));
                    going.retain(|(going, _)| *going != name);
                }
                Err(RecvTimeoutError::Timeout) => {
                    let all: Vec<String> = going.iter().map(|(name, at)| format!("{name}: {at}")).collect();
                    say(start, &all.join("; "));
                }
                // A part has panicked.
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        let panicked = || anyhow!("a part panicked");
        let (first, second) = (first.join(), second.join());
        Ok((first.map_err(|_| panicked())??, second.map_err(|_| panicked())??))
    })
}

fn say(start: Instant, what: &str) {
    println!("{:>5.0} s  {what}", start.elapsed().as_secs_f64());
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn parts_go_side_by_side() {
        // Each waits for the other one.
        let both = Barrier::new(2);
        let meet = |value| {
            let both = &both;
            move |_: &Progress| {
                both.wait();
                Ok(value)
            }
        };
        assert_eq!(at_once(("one", meet(1)), ("two", meet(2))).unwrap(), (1, 2));
    }

    #[test]
    fn the_error_of_either_part_is_told() {
        let fails = |_: &Progress| -> Result<()> { Err(anyhow!("no Go")) };
        let succeeds = |_: &Progress| Ok(());
        assert_eq!(at_once(("one", fails), ("two", succeeds)).unwrap_err().to_string(), "no Go");
        assert_eq!(at_once(("one", succeeds), ("two", fails)).unwrap_err().to_string(), "no Go");
    }
}
