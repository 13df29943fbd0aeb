//! The log: to standard error, with ids only, each line of a request with the id of that request.
//!
//! A server writes JSON, one object a line, for the journal and for log collectors; people at a terminal get text. `EDS_LOG`
//! chooses what is logged (`info`, `debug`, or filters such as `eds_keystore::hsm=debug`), `EDS_LOG_FORMAT` (`json` or
//! `text`) the form. Names of people, of groups and of keys, tokens, shares and PINs are logged at no level; therefore the
//! libraries below, which at their lower levels log what passes through them, have a say from `info` up alone.

use std::{
    env,
    io::{self, IsTerminal},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

/// The form of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Lines for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Starts the log of a command that a person runs, in text, or of a service.
pub fn start(service: bool) -> Form {
    let chosen = env::var("EDS_LOG").ok();
    let parsed = chosen.as_deref().map(EnvFilter::try_new);
    let wrong = matches!(parsed, Some(Err(_)));
    let filter = parsed.and_then(Result::ok).unwrap_or_else(|| EnvFilter::new("info"));
    let filter = filter.and(filter_fn(may_be_logged));
    let form = if service { form_of_service() } else { Form::Text };
    let layer = tracing_subscriber::fmt::layer().with_writer(io::stderr);
    let layer = match form {
        Form::Text => layer.with_ansi(io::stderr().is_terminal()).with_filter(filter).boxed(),
        Form::Json => {
            let layer = layer.json().flatten_event(true).with_current_span(true).with_span_list(false);
            layer.with_filter(filter).boxed()
        }
    };
    tracing_subscriber::registry().with(layer).init();
    if wrong {
        tracing::warn!("EDS_LOG is not a filter, as `info` or `eds_keystore::hsm=debug` are; info is taken");
    }
    form
}

/// Our own lines at every level, those of libraries from `info` up.
fn may_be_logged(line: &Metadata<'_>) -> bool {
    line.target().starts_with("eds_") || *line.level() <= Level::INFO
}

fn form_of_service() -> Form {
    match env::var("EDS_LOG_FORMAT").as_deref() {
        Ok("text") => Form::Text,
        Ok("json") => Form::Json,
        _ if io::stderr().is_terminal() => Form::Text,
        _ => Form::Json,
    }
}

/// A trouble that every request meets while it lasts. `error!` calls a person; once in [`Trouble::AGAIN`] is enough.
#[derive(Debug, Default)]
pub struct Trouble(Mutex<Option<Instant>>);

impl Trouble {
    /// How long after a person was called the same trouble calls again.
    pub const AGAIN: Duration = Duration::from_secs(600);

    /// Nobody was called yet.
    pub const fn new() -> Self {
        Self(Mutex::new(None))
    }

    /// Whether a person is to be called now: then write an `error!`, and else a `warn!`.
    pub fn calls(&self) -> bool {
        self.calls_at(Instant::now())
    }

    fn calls_at(&self, now: Instant) -> bool {
        let mut called = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let due = called.is_none_or(|then| now.saturating_duration_since(then) >= Self::AGAIN);
        if due {
            *called = Some(now);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_that_lasts_calls_a_person_now_and_then_and_not_with_each_request() {
        let trouble = Trouble::new();
        let begin = Instant::now();
        let second = Duration::from_secs(1);
        assert!(trouble.calls_at(begin));
        assert!(!trouble.calls_at(begin) && !trouble.calls_at(begin + Trouble::AGAIN - second));
        assert!(trouble.calls_at(begin + Trouble::AGAIN));
        assert!(!trouble.calls_at(begin + Trouble::AGAIN + second));
    }
}
