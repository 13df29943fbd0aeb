//! Checksums of plaintext, under the names that tools of the grid use.
//!
//! Adler-32, MD5 and SHA-1 are there because catalogs and tools compare by them; integrity comes from the container.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use md5::Digest as _;

use crate::failure::Failure;

/// A checksum that is being computed.
pub(crate) enum Sum {
    Adler32(adler2::Adler32),
    Md5(md5::Md5),
    Sha(digest::Context),
}

impl Sum {
    /// By its name, in any case, with or without a dash.
    pub(crate) fn named(name: &str) -> Result<Self, Failure> {
        let plain: String = name.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
        Ok(match plain.as_str() {
            "adler32" | "ad" => Self::Adler32(adler2::Adler32::new()),
            "md5" | "md" => Self::Md5(md5::Md5::new()),
            "sha1" => Self::Sha(digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY)),
            "sha256" => Self::Sha(digest::Context::new(&digest::SHA256)),
            "sha384" => Self::Sha(digest::Context::new(&digest::SHA384)),
            "sha512" => Self::Sha(digest::Context::new(&digest::SHA512)),
            _ => {
                let known = "adler32, md5, sha1, sha256, sha384, sha512";
                return Err(Failure::new(libc::ENOTSUP, format!("no checksum is called {name:?}: there are {known}")));
            }
        })
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Adler32(sum) => sum.write_slice(bytes),
            Self::Md5(sum) => sum.update(bytes),
            Self::Sha(sum) => sum.update(bytes),
        }
    }

    /// In hexadecimal digits.
    pub(crate) fn finish(self) -> String {
        match self {
            Self::Adler32(sum) => format!("{:08x}", sum.checksum()),
            Self::Md5(sum) => hex(&sum.finalize()),
            Self::Sha(sum) => hex(sum.finish().as_ref()),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_other_programs() {
        // From `python3 -c "import zlib, hashlib"` over b"Wikipedia".
        for (name, sum) in [
            ("ADLER32", "11e60398"),
            ("md5", "9c677286866aad38f8e9b660f5411814"),
            ("SHA1", "664add438097fbd4307f814de8e62a10f8905588"),
            ("sha-256", "d38b38a2dd476e045c299e8ee5d6466834456d97bd592a71746b423a6a05f386"),
        ] {
            let mut whole = Sum::named(name).expect("there is one");
            whole.update(b"Wikipedia");
            let mut parts = Sum::named(name).expect("there is one");
            parts.update(b"Wiki");
            parts.update(b"pedia");
            assert_eq!(parts.finish(), whole.finish(), "{name}");
            let mut again = Sum::named(name).expect("there is one");
            again.update(b"Wikipedia");
            assert_eq!(again.finish(), sum, "{name}");
        }
    }

    #[test]
    fn an_unknown_name_is_not_supported() {
        assert_eq!(Sum::named("crc99").map(Sum::finish).expect_err("there is none").errno, libc::ENOTSUP);
    }
}
