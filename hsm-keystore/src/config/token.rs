//! The section `[hsm]`: the token by a PKCS#11 URI, or by module, label and PIN file; and how it is used.

use std::{path::PathBuf, time::Duration};

use super::{
    DEFAULT_DEADLINE, DEFAULT_GIVE_UP, DEFAULT_THREADS, HsmConfig,
    reader::{Role, Section, Text},
};
use crate::hsm::{
    Suite,
    pin::PinSource,
    uri::{TokenUri, UriError},
};

/// Reads the section.
pub(super) fn read(section: &Section<'_>) -> Option<HsmConfig> {
    let threads = section.number("threads", DEFAULT_THREADS as u64, 1..=64, "one or two threads are usual");
    let milliseconds = |key, default: Duration, allowed, hint| {
        let default = u64::try_from(default.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(section.number(key, default, allowed, hint))
    };
    let deadline = milliseconds("deadline_ms", DEFAULT_DEADLINE, 10..=60_000, "give milliseconds; 5000 is usual");
    let give_up = milliseconds("give_up_ms", DEFAULT_GIVE_UP, 100..=86_400_000, "give milliseconds; 120000 is usual");
    let suite = section.text("suite").and_then(|word| suite(section, word));
    let weaker_wrapped_keys = section.path("weaker_wrapped_keys", Role::WrappedKeys);
    let uri = section.text("uri");
    let parts = parts(section, uri);
    for (name, there) in
        [("module", parts.module.is_some()), ("token", parts.token.is_some()), ("pin_file", parts.pin.is_some())]
    {
        // What is there and wrong is noted already.
        if section.is_there() && !there && !parts.wrong && !section.has(name) {
            section.missing(name, "name the token by hsm.uri, or by hsm.module, hsm.token and hsm.pin_file");
        }
    }
    Some(HsmConfig {
        module: parts.module?,
        token: parts.token?,
        serial: parts.serial,
        pin: parts.pin?,
        suite,
        weaker_wrapped_keys,
        threads: usize::try_from(threads).unwrap_or(DEFAULT_THREADS),
        deadline,
        give_up,
    })
}

/// What names the token and its PIN.
#[derive(Default)]
struct Parts {
    module: Option<PathBuf>,
    token: Option<String>,
    serial: Option<String>,
    pin: Option<PinSource>,
    /// The URI cannot be read: it is not known what it would have said.
    wrong: bool,
}

/// What keys of their own say, together with the URI; nothing may be said twice.
fn parts(section: &Section<'_>, uri: Option<Text<'_>>) -> Parts {
    let module = section.path("module", Role::Module);
    let token = section.text("token");
    let pin = section.path("pin_file", Role::Secret).map(PinSource::File);
    let Some(text) = uri else {
        let token = token.and_then(|token| label(section, token));
        return Parts { module, token, pin, ..Parts::default() };
    };
    let uri: TokenUri = match text.value.parse() {
        Ok(uri) => uri,
        Err(UriError(reason)) => {
            let hint = "write pkcs11:token=LABEL;serial=NUMBER?module-path=FILE&pin-source=file:FILE";
            section.fault(text.span, format!("hsm.uri: {reason}"), hint);
            return Parts { wrong: true, ..Parts::default() };
        }
    };
    let twice = [
        ("token", token.is_some()),
        ("module", module.is_some() && uri.module.is_some()),
        ("pin_file", pin.is_some() && uri.pin.is_some()),
    ];
    for (name, _) in twice.into_iter().filter(|(_, twice)| *twice) {
        section.fault(text.span.clone(), format!("hsm.uri: says what hsm.{name} says too"), "say it in one place");
    }
    let named = |path: PathBuf, role| section.name_file("uri", &text, &path, role);
    let pin_of_uri = uri.pin.map(|pin| match pin {
        PinSource::File(file) => PinSource::File(named(file, Role::Secret)),
        other => other,
    });
    Parts {
        module: uri.module.map(|module| named(module, Role::Module)).or(module),
        token: Some(uri.token),
        serial: uri.serial,
        pin: pin_of_uri.or(pin),
        wrong: false,
    }
}

fn label(section: &Section<'_>, token: Text<'_>) -> Option<String> {
    if token.value.is_empty() || token.value.len() > 32 {
        let message = "hsm.token: a token label has 1 to 32 bytes".to_owned();
        section.fault(token.span, message, "give the label that the token was initialised with");
        return None;
    }
    Some(token.value.to_owned())
}

fn suite(section: &Section<'_>, word: Text<'_>) -> Option<Suite> {
    let suite = Suite::ALL.into_iter().find(|suite| suite.word() == word.value);
    if suite.is_none() {
        let hint = "write \"aes-gcm\" or \"aes-cbc-hmac\", or leave it out to have the best that works";
        section.fault(word.span, format!("hsm.suite: {:?} is no suite", word.value), hint);
    }
    suite
}
