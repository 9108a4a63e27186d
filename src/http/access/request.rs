//! The input of the decision about a request.

use super::peer::PeerUser;

/// Maximum number of bytes of an invalid header that an error quotes.
const QUOTE_MAX: usize = 100;

/// The effect of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Act {
    /// Open the page.
    Page,
    /// Load one of the page's files.
    Asset,
    /// Read something else.
    #[default]
    Read,
    /// Trade a code for a session.
    Trade,
    /// Change something.
    Write,
}

/// The headers with which browsers describe a request.
#[derive(Clone, Copy, Default)]
pub struct Fetch<'a> {
    /// `Sec-Fetch-Site`.
    pub site: Header<'a>,
    /// `Sec-Fetch-Mode`.
    pub mode: Header<'a>,
    /// `Sec-Fetch-Dest`.
    pub dest: Header<'a>,
    /// `Service-Worker`.
    pub service_worker: Header<'a>,
}

impl Fetch<'_> {
    pub(super) fn is_absent(&self) -> bool {
        [self.site, self.mode, self.dest].iter().all(|header| *header == Header::Absent)
    }
}

/// The values of one header of a request. A repeated header must not go unnoticed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Header<'a> {
    /// Not sent.
    #[default]
    Absent,
    /// Sent once.
    One(&'a [u8]),
    /// Sent more than once.
    Several,
}

impl<'a> Header<'a> {
    /// Collects the values of a header, one for each line.
    pub fn collect(values: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut values = values.into_iter();
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(value), None) => Self::One(value),
            (Some(_), Some(_)) => Self::Several,
        }
    }
}

/// The input of the decision.
#[derive(Clone, Copy, Default)]
pub struct AccessRequest<'a> {
    /// The user at the other end, as returned by [`peer_user`](super::peer_user); `None` if
    /// unknown.
    pub peer: Option<PeerUser>,
    /// The header `Host`.
    pub host: Header<'a>,
    /// The header `Origin`.
    pub origin: Header<'a>,
    /// The header `Authorization`. This type has no `Debug`, as it may hold the token.
    pub authorization: Header<'a>,
    /// The browser's description of the request.
    pub fetch: Fetch<'a>,
    /// The header `Procstar-Session`, which is a secret too.
    pub session: Header<'a>,
    /// The effect of the request.
    pub act: Act,
}

/// The text of an invalid header, for an error.
pub(super) fn quote(text: &[u8]) -> String {
    String::from_utf8_lossy(text.get(..QUOTE_MAX).unwrap_or(text)).into_owned()
}
