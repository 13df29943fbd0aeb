//! The section `[hsm]`: the token by a PKCS#11 URI, or by module, label and PIN file; and how it is used.

use std::{ops::Range, path::PathBuf, time::Duration};

use serde::Deserialize;
use toml::Spanned;

use super::{DEFAULT_DEADLINE, DEFAULT_GIVE_UP, DEFAULT_THREADS, HsmConfig, number};
use crate::hsm::{
    Suite,
    pin::PinSource,
    uri::{TokenUri, UriError},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawHsm {
    uri: Option<Spanned<String>>,
    module: Option<PathBuf>,
    token: Option<Spanned<String>>,
    pin_file: Option<PathBuf>,
    suite: Option<Spanned<String>>,
    weaker_wrapped_keys: Option<PathBuf>,
    threads: Option<Spanned<u64>>,
    deadline_ms: Option<Spanned<u64>>,
    give_up_ms: Option<Spanned<u64>>,
}

type Invalid = (Option<Range<usize>>, String, &'static str);

/// Reads the section. `at` makes paths relative to the directory of the file.
pub(super) fn read(raw: Spanned<RawHsm>, at: impl Fn(PathBuf) -> PathBuf) -> Result<HsmConfig, Invalid> {
    let section = raw.span();
    let raw = raw.into_inner();
    let threads = number(raw.threads, DEFAULT_THREADS as u64, 1..=64)
        .map_err(|span| (span, "hsm.threads: not between 1 and 64".to_owned(), "one or two threads are usual"))?;
    let deadline = number(raw.deadline_ms, DEFAULT_DEADLINE.as_millis() as u64, 10..=60_000).map_err(|span| {
        (span, "hsm.deadline_ms: not between 10 and 60000".to_owned(), "give milliseconds; 5000 is usual")
    })?;
    let give_up = number(raw.give_up_ms, DEFAULT_GIVE_UP.as_millis() as u64, 100..=86_400_000).map_err(|span| {
        (span, "hsm.give_up_ms: not between 100 and 86400000".to_owned(), "give milliseconds; 120000 is usual")
    })?;
    let suite = raw.suite.as_ref().map(suite).transpose()?;
    let missing = |what: &str| {
        let hint = "name the token by hsm.uri, or by hsm.module, hsm.token and hsm.pin_file";
        (Some(section.clone()), format!("hsm.{what}: missing"), hint)
    };
    let uri = match &raw.uri {
        None => None,
        Some(text) => {
            let parsed = text.get_ref().parse().map_err(|UriError(reason)| {
                let hint = "write pkcs11:token=LABEL;serial=NUMBER?module-path=FILE&pin-source=file:FILE";
                (Some(text.span()), format!("hsm.uri: {reason}"), hint)
            })?;
            Some((text.span(), parsed))
        }
    };
    let named = Named {
        module: raw.module.map(&at),
        token: raw.token,
        pin: raw.pin_file.map(|file| PinSource::File(at(file))),
    };
    let (module, token, serial, pin) = named.with(uri)?;
    Ok(HsmConfig {
        module: module.ok_or_else(|| missing("module"))?,
        token: token.ok_or_else(|| missing("token"))?,
        serial,
        pin: pin.ok_or_else(|| missing("pin_file"))?,
        suite,
        weaker_wrapped_keys: raw.weaker_wrapped_keys.map(at),
        threads: usize::try_from(threads).unwrap_or(DEFAULT_THREADS),
        deadline: Duration::from_millis(deadline),
        give_up: Duration::from_millis(give_up),
    })
}

/// What keys of their own say.
struct Named {
    module: Option<PathBuf>,
    token: Option<Spanned<String>>,
    pin: Option<PinSource>,
}

type Parts = (Option<PathBuf>, Option<String>, Option<String>, Option<PinSource>);

impl Named {
    /// Together with the URI; nothing may be said twice.
    fn with(self, uri: Option<(Range<usize>, TokenUri)>) -> Result<Parts, Invalid> {
        let Some((span, uri)) = uri else {
            let Some(token) = self.token else { return Ok((self.module, None, None, self.pin)) };
            if token.get_ref().is_empty() || token.get_ref().len() > 32 {
                let message = "hsm.token: a token label has 1 to 32 bytes".to_owned();
                return Err((Some(token.span()), message, "give the label that the token was initialised with"));
            }
            return Ok((self.module, Some(token.into_inner()), None, self.pin));
        };
        let twice = [
            ("token", self.token.is_some()),
            ("module", self.module.is_some() && uri.module.is_some()),
            ("pin_file", self.pin.is_some() && uri.pin.is_some()),
        ];
        if let Some((name, _)) = twice.into_iter().find(|(_, twice)| *twice) {
            let message = format!("hsm.uri: says what hsm.{name} says too");
            return Err((Some(span), message, "say it in one place"));
        }
        Ok((uri.module.or(self.module), Some(uri.token), uri.serial, uri.pin.or(self.pin)))
    }
}

fn suite(word: &Spanned<String>) -> Result<Suite, Invalid> {
    Suite::ALL.into_iter().find(|suite| suite.word() == word.get_ref()).ok_or_else(|| {
        let hint = "write \"aes-gcm\" or \"aes-cbc-hmac\", or leave it out to have the best that works";
        (Some(word.span()), format!("hsm.suite: {:?} is no suite", word.get_ref()), hint)
    })
}
