//! The answer to a WebSocket upgrade, from any bytes in any portions: the verdict does not depend on the portions, and
//! what follows the answer is left whole.

#![no_main]

use device_sim::transport::{WebSocketFailure, fuzzing::Upgrade};
use libfuzzer_sys::{Corpus, fuzz_target};

fuzz_target!(|data: &[u8]| -> Corpus {
    let [portion, bytes @ ..] = data else { return Corpus::Reject };
    let whole = take(std::iter::once(bytes));
    let split = take(bytes.chunks(usize::from(*portion) + 1));
    assert_eq!(whole, split);
    Corpus::Keep
});

/// How long the answer is; `None` if it is not whole.
fn take<'b>(portions: impl Iterator<Item = &'b [u8]>) -> Result<Option<usize>, WebSocketFailure> {
    let mut upgrade = Upgrade::default();
    let mut taken = 0;
    for portion in portions {
        taken += portion.len();
        if let Some(rest) = upgrade.take(portion)? {
            assert!(rest <= portion.len(), "{rest} bytes follow, and {} came", portion.len());
            return Ok(Some(taken - rest));
        }
    }
    Ok(None)
}
