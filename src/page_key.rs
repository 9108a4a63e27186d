//! The key of the page's sessions. The keeper keeps it for later workers, as long as it holds the
//! service's port.

use std::fmt;

use ring::rand::{SecureRandom as _, SystemRandom};
use serde::{Deserialize, Serialize};

/// 32 random bytes; `None` if sessions are disabled, or the kernel returned no random bytes.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageKey(#[serde(with = "serde_bytes")] Vec<u8>);

impl PageKey {
    /// A new random key.
    pub fn random() -> PageKey {
        PageKey(random_bytes::<32>().map(|bytes| bytes.to_vec()).unwrap_or_default())
    }

    /// The bytes, if there are any.
    pub fn expose(&self) -> Option<&[u8]> {
        (!self.0.is_empty()).then_some(&self.0)
    }
}

/// Random bytes of the kernel; `None` if it returns none.
pub fn random_bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).ok().map(|()| bytes)
}

impl fmt::Debug for PageKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
