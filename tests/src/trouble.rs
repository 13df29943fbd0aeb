//! One error for the whole bench: a text that says what did not work, with the causes after it.
//!
//! Tests return [`Outcome`], so a failure of the bench itself is told apart from a failed assertion.

use std::fmt;

/// What did not work, for people.
pub struct Trouble(String);

/// The result of a step of the bench.
pub type Outcome<T = ()> = Result<T, Trouble>;

impl Trouble {
    /// From a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

// `Debug` is what the test runner prints, so it is the text itself.
impl fmt::Debug for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Trouble {
    fn from(error: E) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            text += &format!(": {error}");
            cause = error.source();
        }
        Self(text)
    }
}

/// Says what was being done when something went wrong.
pub trait During<T> {
    /// Puts `what` before the error.
    ///
    /// # Errors
    /// The same error, with more words.
    fn during(self, what: impl fmt::Display) -> Outcome<T>;
}

impl<T, E: Into<Trouble>> During<T> for Result<T, E> {
    fn during(self, what: impl fmt::Display) -> Outcome<T> {
        self.map_err(|error| Trouble(format!("{what}: {}", error.into())))
    }
}

/// Gives up with a formatted text.
#[macro_export]
macro_rules! give_up {
    ($($text:tt)*) => { return Err($crate::Trouble::new(format!($($text)*))) };
}
