//! What went wrong, for callers who go by errno: the number, and a text that names the party at fault.

use std::ffi::c_int;

use eds::{Error, Kind};

/// An operation that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) errno: c_int,
    pub(crate) text: String,
}

impl Failure {
    pub(crate) fn new(errno: c_int, text: impl Into<String>) -> Self {
        Self { errno, text: text.into() }
    }

    /// A panic that was stopped before it reached C.
    pub(crate) fn of_panic() -> Self {
        Self::new(libc::EIO, "the EDS plugin failed in an unforeseen way; please report it")
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        // One line, without the prefix that is meant for a terminal.
        let report = error.report();
        let text = report.strip_prefix("eds: error: ").unwrap_or(&report).lines().map(str::trim).collect::<Vec<_>>();
        Self { errno: errno_of(error.kind()), text: text.join("; ") }
    }
}

/// The errno of each kind of failure; docs/gfal.md has the table.
const fn errno_of(kind: Kind) -> c_int {
    match kind {
        Kind::Usage => libc::EINVAL,
        Kind::NotFound => libc::ENOENT,
        Kind::Denied => libc::EACCES,
        Kind::Unavailable => libc::EAGAIN,
        Kind::Conflict => libc::EEXIST,
        Kind::Unsupported => libc::ENOTSUP,
        // Damaged data, the local disk, and whatever a later release tells apart.
        _ => libc::EIO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_the_errno_that_a_program_expects() {
        assert_eq!(errno_of(Kind::NotFound), libc::ENOENT);
        assert_eq!(errno_of(Kind::Denied), libc::EACCES);
        assert_eq!(errno_of(Kind::Unavailable), libc::EAGAIN);
        assert_eq!(errno_of(Kind::Damaged), libc::EIO);
        assert_eq!(errno_of(Kind::Conflict), libc::EEXIST);
        assert!(Kind::ALL.into_iter().all(|kind| errno_of(kind) > 0), "no failure looks like success");
    }

    #[test]
    fn the_text_is_one_line() {
        let failure = Failure::from(Error::NotAnId("x".into()));
        assert!(!failure.text.contains('\n') && failure.text.contains("\"x\""), "{failure:?}");
        assert_eq!(failure.errno, libc::EINVAL);
    }
}
