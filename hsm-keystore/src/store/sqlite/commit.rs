//! Group commit: writes that come while another is on its way to the disk share the next commit.
//!
//! A caller puts its write into the queue and waits for the connection. Whoever gets the connection runs all writes that
//! are queued, each under a savepoint of its own, and commits them at once; the others find their answers when they get
//! there. An answer is given after the commit, so each write is as durable, and as alone, as if it had its own. One
//! caller alone waits for nobody.

use std::{
    mem,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, TryRecvError, sync_channel},
    },
};

use rusqlite::{Connection, Savepoint, TransactionBehavior};

/// The connection that writes, and what waits for it.
pub(super) struct Writer {
    connection: Mutex<Connection>,
    waiting: Mutex<Vec<Write>>,
}

/// Why a write was not done. A failed commit fails all writes that shared it.
pub(super) type Failure = Arc<rusqlite::Error>;
/// Does a write and returns how to answer it, once it is known whether the commit held.
type Write = Box<dyn FnOnce(&mut Savepoint<'_>) -> rusqlite::Result<Answer> + Send>;
type Answer = Box<dyn FnOnce(Result<(), Failure>) + Send>;

impl Writer {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection: Mutex::new(connection), waiting: Mutex::default() }
    }

    /// Runs `work` in a transaction, which is durable when this returns. What it did is undone if it fails.
    pub(super) fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let answer = self.enqueue(work);
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        // Another caller may have done it meanwhile.
        match answer.try_recv() {
            Ok(done) => return done,
            Err(TryRecvError::Disconnected) => return Err(cut_off()),
            Err(TryRecvError::Empty) => {}
        }
        let together = mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        match commit(&mut connection, together) {
            Ok(answers) => answers.into_iter().for_each(|answer| answer(Ok(()))),
            Err((failure, answers)) => {
                answers.into_iter().for_each(|answer| answer(Err(Arc::clone(&failure))));
                return Err(failure);
            }
        }
        drop(connection);
        answer.recv().unwrap_or_else(|_| Err(cut_off()))
    }

    fn enqueue<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Receiver<Result<T, Failure>> {
        let (sender, receiver) = sync_channel(1);
        let write = move |savepoint: &mut Savepoint<'_>| {
            let done = work(savepoint).map_err(Arc::new);
            if done.is_err() {
                savepoint.rollback()?;
            }
            let answer = move |committed: Result<(), Failure>| {
                // Nobody waits when the caller's thread is gone.
                let _ = sender.send(committed.and(done));
            };
            Ok(Box::new(answer) as Answer)
        };
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(write));
        receiver
    }
}

/// Does the writes in one transaction. On failure nothing of them is left, and those that were not begun have no answer.
fn commit(connection: &mut Connection, writes: Vec<Write>) -> Result<Vec<Answer>, (Failure, Vec<Answer>)> {
    let mut answers = Vec::with_capacity(writes.len());
    let run = || {
        let mut transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for write in writes {
            let mut savepoint = transaction.savepoint()?;
            answers.push(write(&mut savepoint)?);
            savepoint.commit()?;
        }
        transaction.commit()
    };
    match run() {
        Ok(()) => Ok(answers),
        Err(error) => Err((Arc::new(error), answers)),
    }
}

/// The answer to a write whose commit failed before it was begun: nothing was done, and it may be asked again.
fn cut_off() -> Failure {
    let busy = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
    Arc::new(rusqlite::Error::SqliteFailure(busy, Some("a write that shared the commit failed".into())))
}
