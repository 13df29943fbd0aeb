//! Sessions for many callers at once: a plugin in a program with threads, a mounted folder.
//!
//! A session works for one caller at a time (its network runtime, its connections and its database connection are one each), so
//! each call takes one out and puts it back, and threads do not wait for each other. What a process opened is of no use
//! to its children: connections would be shared and interleaved. A child that `fork` made finds a pool of its own, and
//! leaves its parent's untouched, also when it ends. The pools form a chain that only grows, so that nothing that another
//! thread may have held at the moment of `fork` is ever waited for.

use std::{
    mem, process,
    sync::{Mutex, OnceLock, PoisonError},
};

use super::Session;
use crate::{Error, config::Config};

/// Sessions for this process and its children.
pub struct Sessions {
    first: Pool,
    configuration: Configuration,
}

/// Where the configuration comes from, for each session anew.
pub type Configuration = Box<dyn Fn() -> Result<Config, Error> + Send + Sync>;

struct Pool {
    /// Whose it is.
    process: u32,
    idle: Mutex<Vec<Session>>,
    /// The pool of the child that this process became.
    next: OnceLock<Box<Pool>>,
}

impl Sessions {
    /// Opens nothing yet: a program that only lists local files needs no configuration of EDS.
    pub fn new(configuration: impl Fn() -> Result<Config, Error> + Send + Sync + 'static) -> Self {
        Self { first: Pool::of(process::id()), configuration: Box::new(configuration) }
    }

    /// Calls `work` with a session that nobody else uses meanwhile.
    ///
    /// # Errors
    /// As [`Session::open`], and what `work` fails with.
    pub fn with<T>(&self, work: impl FnOnce(&Session) -> Result<T, Error>) -> Result<T, Error> {
        let pool = self.first.of_this_process();
        let idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let session = match idle {
            Some(session) => session,
            None => Session::open(&(self.configuration)()?)?,
        };
        let done = work(&session);
        // A session that was in the middle of a panic is not used again; one more than is usual is closed.
        let mut idle = pool.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(session);
        }
        done
    }
}

impl Pool {
    fn of(process: u32) -> Self {
        Self { process, idle: Mutex::default(), next: OnceLock::new() }
    }

    fn of_this_process(&self) -> &Self {
        let this = process::id();
        let mut pool = self;
        while pool.process != this {
            pool = pool.next.get_or_init(|| Box::new(Self::of(this)));
        }
        pool
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if self.process != process::id() {
            // The parent's: ending its connections would end them for the parent too.
            let idle = self.idle.get_mut().unwrap_or_else(PoisonError::into_inner);
            mem::forget(mem::take(idle));
        }
    }
}

/// Sessions that are kept for the next call.
const MAX_IDLE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_go_from_thread_to_thread() {
        fn sent<T: Send>() {}
        fn shared<T: Sync>() {}
        sent::<Session>();
        shared::<Sessions>();
    }

    #[test]
    fn a_child_has_a_pool_of_its_own() {
        let parents = Pool::of(0);
        let own = parents.of_this_process();
        assert_eq!(own.process, process::id());
        assert!(std::ptr::eq(own, parents.of_this_process()), "it is made once");
    }
}
