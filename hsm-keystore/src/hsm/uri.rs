//! PKCS#11 URIs (RFC 7512): where a token is, and where its PIN comes from.
//!
//! ```text
//! pkcs11:token=eds-node-1;serial=2f0c?module-path=/usr/lib/softhsm/libsofthsm2.so&pin-source=file:/etc/eds/pin
//! ```
//!
//! `token` is needed; `serial` narrows it to one device. What would be ignored is refused, so that nobody believes in a
//! limit that does not hold. `pin-value` is refused without being repeated: a PIN in a URI ends up in logs.

use std::path::PathBuf;

use crate::hsm::pin::PinSource;

/// A token as a URI names it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenUri {
    /// Its label.
    pub token: String,
    /// Its serial number.
    pub serial: Option<String>,
    /// The module.
    pub module: Option<PathBuf>,
    /// Where the PIN comes from.
    pub pin: Option<PinSource>,
}

/// Why a URI is not used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("PKCS#11 URI: {0}")]
pub struct UriError(pub(crate) String);

impl std::str::FromStr for TokenUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest = text.strip_prefix("pkcs11:").ok_or_else(|| UriError("does not begin with pkcs11:".to_owned()))?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (mut token, mut serial, mut module, mut pin) = (None, None, None, None);
        for (name, value) in attributes(path, ';')? {
            match name {
                "token" => set(&mut token, name, value)?,
                "serial" => set(&mut serial, name, value)?,
                other => return Err(UriError(format!("{other} is not used here; name the token by token and serial"))),
            }
        }
        for (name, value) in attributes(query, '&')? {
            match name {
                "module-path" => set(&mut module, name, PathBuf::from(value))?,
                "pin-source" => set(&mut pin, name, PinSource::parse(&value).map_err(UriError)?)?,
                "pin-value" => {
                    let reason = "pin-value would show the PIN to everybody who sees the URI; use pin-source";
                    return Err(UriError(reason.to_owned()));
                }
                other => return Err(UriError(format!("{other} is not used here"))),
            }
        }
        let token = token.filter(|token: &String| (1..=32).contains(&token.len()));
        let token = token.ok_or_else(|| UriError("token: a label of 1 to 32 bytes is needed".to_owned()))?;
        Ok(Self { token, serial, module, pin })
    }
}

fn set<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), UriError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(UriError(format!("{name} is given twice"))),
    }
}

fn attributes(text: &str, separator: char) -> Result<Vec<(&str, String)>, UriError> {
    text.split(separator)
        .filter(|part| !part.is_empty())
        .map(|part| {
            // What stands before the sign may be a secret that was put into the wrong place.
            let (name, value) = part.split_once('=').ok_or_else(|| UriError("an attribute has no value".to_owned()))?;
            let value = decoded(value).ok_or_else(|| UriError(format!("{name}: its %-encoding is wrong")))?;
            Ok((name, value))
        })
        .collect()
}

/// Percent-decoding (RFC 3986, section 2.1).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            bytes.push(digit(rest.next()?)? << 4 | digit(rest.next()?)?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok().filter(|text| !text.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_named_with_all_that_it_has() {
        let text = "pkcs11:token=ward%20%3b1;serial=2f?module-path=/a/b.so&pin-source=file:/etc/p%25in";
        let uri = TokenUri {
            token: "ward ;1".to_owned(),
            serial: Some("2f".to_owned()),
            module: Some("/a/b.so".into()),
            pin: Some(PinSource::File("/etc/p%in".into())),
        };
        assert_eq!(text.parse(), Ok(uri));
        let short: TokenUri = "pkcs11:token=a".parse().expect("enough");
        assert_eq!((short.serial, short.module, short.pin), (None, None, None));
    }

    #[test]
    fn what_cannot_be_kept_is_refused_and_no_pin_is_repeated() {
        for text in [
            "token=a",
            "pkcs11:",
            "pkcs11:serial=1",
            "pkcs11:token=",
            "pkcs11:token=a;token=b",
            "pkcs11:token=a;object=key",
            "pkcs11:token=a%2",
            "pkcs11:token=%zz",
            "pkcs11:token=%ff",
            "pkcs11:token=a;73281946",
            "pkcs11:token=a?pin-value=73281946",
            "pkcs11:token=a?pin-source=|cat%2073281946",
            "pkcs11:token=a?module-name=soft",
            "pkcs11:token=000000000000000000000000000000000",
        ] {
            let error = text.parse::<TokenUri>().expect_err(text).to_string();
            assert!(!error.contains("73281946"), "{error}");
        }
    }
}
