//! HTTP with the verbs of WebDAV (RFC 4918), as far as objects need them: Apache, nginx, dCache, and XRootD's HTTP door.
//!
//! GET of a range, HEAD, PUT, DELETE, MKCOL and MOVE; no PROPFIND, whose body breaks kept connections of XRootD 5. A server
//! without MOVE gets the object under its name at once, if nothing is there: then a broken upload is deleted again.
//! `Want-Digest` (RFC 3230) asks for the checksum that grid storages keep.

use hyper::{
    Method,
    header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderName, RANGE},
};

use super::{
    Error, Fault, Site,
    http::{Ask, Http, runtime},
    remote::{Content, Door, Renaming, put_renaming},
};

/// A server that speaks WebDAV.
pub(super) struct WebDav {
    http: Http,
    /// The URL of the site with a scheme that HTTP knows.
    base: String,
}

impl WebDav {
    pub(super) fn new(site: &Site, tls: bool) -> Result<Self, Error> {
        let url = site.url();
        let base = format!("{}://{}{}", if tls { "https" } else { "http" }, url.authority(), url.path());
        Ok(Self { http: Http::new(site, tls)?.at_home(&base), base })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.base)
    }

    fn ask(&self, method: Method, path: &str) -> Ask<'static> {
        Ask::new(method, self.url(path))
    }

    fn do_it(&self, ask: &Ask<'_>) -> Result<hyper::HeaderMap, Fault> {
        runtime()?.block_on(async { self.http.ask(ask).await?.ended().await })
    }

    /// The length as the answer to a range has it.
    fn size_by_range(&self, path: &str) -> Result<u64, Fault> {
        let ask = self.ask(Method::GET, path).header(RANGE, "bytes=0-0");
        runtime()?.block_on(async {
            let answer = self.http.ask(&ask).await?;
            let text = |name: HeaderName| answer.headers.get(name)?.to_str().ok();
            let total = text(CONTENT_RANGE).and_then(|range| range.rsplit_once('/')?.1.parse().ok());
            let size = match answer.status.as_u16() {
                200 => text(CONTENT_LENGTH).and_then(|length| length.parse().ok()),
                206 => total,
                // There is no first byte.
                416 => total.or(Some(0)),
                _ => return answer.ended().await.and(Err(Fault::Answer("to a range".into()))),
            };
            size.ok_or_else(|| Fault::Answer("it does not tell the length of an object".into()))
        })
    }

    fn put_file(&self, path: &str, content: Option<&Content>) -> Result<(), Fault> {
        let ask = Ask { content, ..self.ask(Method::PUT, path) };
        self.do_it(&ask).map(drop)
    }
}

impl Door for WebDav {
    fn size(&self, path: &str) -> Result<u64, Fault> {
        let headers = self.do_it(&self.ask(Method::HEAD, path))?;
        match headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()) {
            Some(length) => Ok(length),
            // Apache does not tell the length of what is empty.
            None => self.size_by_range(path),
        }
    }

    fn read(&self, path: &str, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), Fault> {
        let last = offset + (length as u64).saturating_sub(1);
        let ask = self.ask(Method::GET, path).header(RANGE, format!("bytes={offset}-{last}"));
        runtime()?.block_on(async {
            let mut answer = self.http.ask(&ask).await?;
            match answer.status.as_u16() {
                206 => answer.read(length, into).await,
                // It sends everything: well, if that is what was asked for.
                200 if offset == 0 => answer.read(length, into).await,
                200 => Err(Fault::Refused("it cannot send a part of an object".into())),
                416 => Err(Fault::Answer("the object is shorter than it was".into())),
                _ => answer.ended().await.map(drop),
            }
        })
    }

    fn put(&self, path: &str, content: &Content) -> Result<(), Fault> {
        put_renaming(self, path, content)
    }

    fn delete(&self, path: &str) -> Result<(), Fault> {
        self.do_it(&self.ask(Method::DELETE, path)).map(drop)
    }
}

impl Renaming for WebDav {
    fn write(&self, path: &str, content: &Content, _before: u32) -> Result<(), Fault> {
        if content.size > ASK_FIRST {
            // A server that refuses does not read the body, and what it says is lost when the connection breaks.
            self.put_file(path, None)?;
        }
        self.put_file(path, Some(content))
    }

    fn make_directory(&self, path: &str) -> Result<(), Fault> {
        let mkcol = Method::from_bytes(b"MKCOL").map_err(|error| Fault::Refused(error.to_string()))?;
        // The site's own folder may not be there either.
        let ends = path.match_indices('/').map(|(end, _)| path.get(..end).unwrap_or_default());
        for folder in std::iter::once("").chain(ends) {
            match self.do_it(&Ask::new(
                mkcol.clone(),
                format!("{}/{folder}", self.base).trim_end_matches('/').to_owned() + "/",
            )) {
                // There already: each server has its own way to say so.
                Ok(_) | Err(Fault::Refused(_) | Fault::Exists) => {}
                // One above it may be refused to us, and is no matter of ours if the next can be made.
                Err(Fault::NotFound | Fault::Denied(_)) if folder.is_empty() => {}
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    fn adler32(&self, path: &str) -> Result<Option<u32>, Fault> {
        let ask = self.ask(Method::HEAD, path).header(HeaderName::from_static("want-digest"), "adler32");
        let headers = self.do_it(&ask)?;
        let digest = headers.get("digest").and_then(|value| value.to_str().ok());
        Ok(digest.and_then(parse_digest))
    }

    fn rename(&self, from: &str, to: &str) -> Result<(), Fault> {
        let r#move = Method::from_bytes(b"MOVE").map_err(|error| Fault::Refused(error.to_string()))?;
        // Not every server heeds `Overwrite`.
        match self.size(to) {
            Ok(_) => return Err(Fault::Exists),
            Err(Fault::NotFound) => {}
            Err(fault) => return Err(fault),
        }
        let ask = self
            .ask(r#move, from)
            .header(HeaderName::from_static("destination"), self.url(to))
            .header(HeaderName::from_static("overwrite"), "F");
        self.do_it(&ask).map(drop)
    }
}

/// `adler32=0a1b2c3d`, among others perhaps.
fn parse_digest(text: &str) -> Option<u32> {
    let digests = text.split(',').filter_map(|each| each.trim().split_once('='));
    let (_, value) = digests.into_iter().find(|(name, _)| name.eq_ignore_ascii_case("adler32"))?;
    u32::from_str_radix(value, 16).ok()
}

/// Objects larger than this are sent after an empty one was taken.
const ASK_FIRST: u64 = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_found_among_others() {
        assert_eq!(parse_digest("adler32=11e60398"), Some(0x11e6_0398));
        assert_eq!(parse_digest("md5=abc==, ADLER32=00000001"), Some(1));
        assert_eq!(parse_digest("adler32=xyz"), None);
        assert_eq!(parse_digest("md5=abc"), None);
    }
}
