//! The encoding in which a result shows captured bytes.

use crate::spec::{CaptureSpec, Encoding};

/// The encoding of captured bytes in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FdEncoding {
    Text,
    Base64,
    Base2048,
}

impl FdEncoding {
    pub(super) fn of(spec: &CaptureSpec) -> FdEncoding {
        match spec.encoding {
            Some(Encoding::Utf8) => FdEncoding::Text,
            None | Some(Encoding::Base64) => FdEncoding::Base64,
            Some(Encoding::Base2048) => FdEncoding::Base2048,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            FdEncoding::Text => "utf-8",
            FdEncoding::Base64 => "base64",
            FdEncoding::Base2048 => "base2048",
        }
    }
}
