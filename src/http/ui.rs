//! The page's files, which are part of the program: hand-written, without other sources, and served
//! unchanged.
//!
//! They contain nothing about this machine. So a client that lacks only the token receives them,
//! too: the page asks for the token, and its own requests are checked like any other.

use std::io::Write;
use std::sync::LazyLock;

use bytes::Bytes;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

/// The page's permissions: its own files, its own service, no inline code, and no text that becomes
/// markup.
pub(super) const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; worker-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// The name of the page itself among its files.
pub(super) const INDEX: &str = "index.html";

/// A file.
pub(super) struct Asset {
    name: &'static str,
    /// The content for a client that does not accept gzip.
    pub(super) plain: Bytes,
    /// The same content, compressed once.
    pub(super) gzip: Bytes,
    /// The strong tag of the plain content; that of the compressed one ends in `-gz`.
    pub(super) hash: String,
}

impl Asset {
    fn new(name: &'static str, content: &'static [u8]) -> Asset {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
        // Writing to memory cannot fail; the tests would detect an empty file.
        let packed = encoder.write_all(content).and_then(|()| encoder.finish());
        let hash = Sha256::digest(content);
        let hash = hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect();
        let gzip = packed.unwrap_or_default().into();
        Asset { name, plain: Bytes::from_static(content), gzip, hash }
    }

    /// The media type, by the name's end.
    pub(super) fn content_type(&self) -> &'static str {
        match self.name.rsplit_once('.') {
            Some((_, "html")) => "text/html; charset=utf-8",
            Some((_, "css")) => "text/css; charset=utf-8",
            Some((_, "js")) => "text/javascript; charset=utf-8",
            Some((_, "svg")) => "image/svg+xml",
            _ => "application/octet-stream",
        }
    }
}

macro_rules! assets {
    ($($name:literal)*) => {
        static ASSETS: LazyLock<Vec<Asset>> = LazyLock::new(|| {
            vec![$(Asset::new($name, include_bytes!(concat!("ui/", $name))),)*]
        });
    };
}

assets! {
    "index.html" "style.css" "icon.svg" "theme.js" "app.js" "dom.js" "format.js" "api.js" "live.js" "store.js" "chart.js"
    "list.js" "actions.js" "proc.js" "details.js" "text.js" "source.js" "output.js" "output-window.js" "output-reader.js" "output-follower.js" "output-finder.js" "search.js" "start.js" "keys.js"
}

/// The file of a name.
pub(super) fn find(name: &str) -> Option<&'static Asset> {
    ASSETS.iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Exactly the files beside it are served; they are small, and all references between them
    /// resolve.
    #[test]
    fn all_files_are_served() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/http/ui");
        let there = std::fs::read_dir(dir).unwrap();
        let there: BTreeSet<_> =
            there.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let served: BTreeSet<_> = ASSETS.iter().map(|asset| asset.name.to_owned()).collect();
        assert_eq!(there, served);
        let total: usize = ASSETS.iter().map(|asset| asset.plain.len()).sum();
        assert!(total < 300 << 10, "{total}");
        for asset in ASSETS.iter() {
            assert!(!asset.gzip.is_empty() && asset.gzip.len() < asset.plain.len() + 64);
            let text = std::str::from_utf8(&asset.plain).unwrap();
            for named in text.split("\"./").skip(1).chain(text.split("\"/ui/").skip(1)) {
                let name = named.split('"').next().unwrap();
                assert!(find(name).is_some(), "{} names {name}", asset.name);
            }
        }
    }

    /// The policy allows everything in them, and nothing needs another server.
    #[test]
    fn no_code_within_markup() {
        for asset in ASSETS.iter() {
            let text = std::str::from_utf8(&asset.plain).unwrap();
            for bad in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("] {
                assert!(!text.contains(bad), "{}: {bad}", asset.name);
            }
            let external = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!external.contains("://"), "{} names another server", asset.name);
        }
        let index = std::str::from_utf8(&find(INDEX).unwrap().plain).unwrap();
        for bad in ["style=", "<style", "javascript:", " onclick", " onload"] {
            assert!(!index.contains(bad), "{bad}");
        }
    }
}
