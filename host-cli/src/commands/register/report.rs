//! What `eds register` says: ids on standard output, or events as lines of JSON; talk and a summary on standard error.

use std::{io::Write as _, path::Path};

use eds_core::ids::Threshold;
use serde_json::json;

use super::super::queue::tell_late;
use crate::{
    Error, Kind,
    catalog::Content,
    journey::register::{Event, Recovered, Registration, Summary},
    keystore::NodeError,
    output::{self, Existing, Output},
};

/// Counts and tells.
pub(in crate::commands) struct Report {
    json: bool,
    /// Whether there is a folder among the arguments: then files that went well are not each talked about.
    many: bool,
    registered: usize,
    known: usize,
    left_out: usize,
    failed: usize,
    first: Option<Error>,
    kind: Option<Kind>,
    threshold: Option<Threshold>,
    reports: Option<Reports>,
}

impl Report {
    pub(in crate::commands) fn new(json: bool, many: bool, reports: Option<Reports>) -> Self {
        Self {
            json,
            many,
            registered: 0,
            known: 0,
            left_out: 0,
            failed: 0,
            first: None,
            kind: None,
            threshold: None,
            reports,
        }
    }

    pub(in crate::commands) fn event(&mut self, event: Event) -> Result<(), Error> {
        match event {
            Event::Registered(done) => {
                self.registered += 1;
                self.threshold = Some(done.threshold);
                for suspicion in &done.notes.suspicions {
                    eprintln!("eds: warning: {}: {suspicion}", done.path.display());
                }
                if let Some(reports) = &mut self.reports {
                    reports.add(&done)?;
                }
                let what = match done.content {
                    Content::Opaque if done.notes.quarantined => "quarantined: encrypted whole, to be looked at",
                    Content::Image => "the patient's data is separated and sealed",
                    Content::Opaque => "not looked into, encrypted whole",
                };
                self.talk(&format!("{}: {what}; {} key servers open it", done.path.display(), done.threshold));
                let content = if done.content == Content::Image { "image" } else { "opaque" };
                let event = json!({
                    "event": "registered", "id": done.file.to_string(), "path": text(&done.path), "content": content,
                    "key": done.key.to_string(), "bytes": done.size, "quarantined": done.notes.quarantined,
                });
                self.put(&event, Some((&done.file.to_string(), &done.path)))
            }
            Event::Known { path, file, size } => {
                self.known += 1;
                self.talk(&format!("{}: is registered already, with the same content", path.display()));
                let id = file.to_string();
                let event = json!({ "event": "known", "id": id, "path": text(&path), "bytes": size });
                self.put(&event, Some((&id, &path)))
            }
            Event::LeftOut { path, reason } => {
                self.left_out += 1;
                eprintln!("{}: left out: {reason}", path.display());
                self.put(&json!({ "event": "left out", "path": text(&path), "reason": reason }), None)
            }
            Event::Failed { path, error } => {
                self.failed += 1;
                let (report, code) = (error.report(), error.kind().exit_code());
                self.kind.get_or_insert(error.kind());
                let event = json!({ "event": "failed", "path": text(&path), "error": report, "code": code });
                self.put(&event, None)?;
                match self.first.replace(error) {
                    // A single error is that of the command, and is said at its end.
                    None => {}
                    Some(before) => self.say_failed(&before),
                }
                if self.many {
                    let last = self.first.take();
                    last.iter().for_each(|error| self.say_failed(error));
                }
                Ok(())
            }
            Event::Recovered(recovered) => {
                eprintln!("{}", recovery(recovered));
                let Recovered { completed, taken_back, left } = recovered;
                let event =
                    json!({ "event": "recovered", "completed": completed, "taken back": taken_back, "left": left });
                self.put(&event, None)
            }
        }
    }

    pub(in crate::commands) fn late(&self, late: &[NodeError]) {
        if let Some(threshold) = self.threshold {
            tell_late(threshold, late);
        }
    }

    /// After a run that could not go on.
    pub(super) fn stopped(&self) -> Result<(), Error> {
        if self.registered + self.known > 0 {
            eprintln!("{}; the same command goes on from here", self.counts());
        }
        Ok(())
    }

    pub(super) fn end(&self, summary: &Summary) -> Result<(), Error> {
        if self.many {
            eprintln!("{}", self.counts());
        }
        let seconds = |time: std::time::Duration| time.as_secs_f64();
        let shares = &summary.shares;
        self.put(
            &json!({
                "event": "end", "registered": self.registered, "known": self.known, "left out": self.left_out,
                "failed": self.failed, "keys": summary.keys, "registrations": summary.registrations,
                "seconds": {
                    "parse": seconds(shares.parse), "encrypt": seconds(shares.encrypt), "keys": seconds(shares.keys),
                    "network": seconds(shares.network), "record": seconds(shares.record),
                },
            }),
            None,
        )
    }

    pub(in crate::commands) fn into_result(mut self) -> Result<(), Error> {
        if let Some(reports) = self.reports.take() {
            reports.finish()?;
        }
        let tried = self.registered + self.known + self.failed;
        match (self.kind, self.first) {
            (None, _) => Ok(()),
            (Some(_), Some(error)) if tried == 1 && !self.many => Err(error),
            (Some(kind), last) => {
                if let Some(error) = &last {
                    eprintln!("{}", error.report());
                }
                Err(Error::SomeFailed { kind })
            }
        }
    }

    fn counts(&self) -> String {
        let mut text = format!("{} registered", self.registered);
        for (count, what) in [
            (self.known, "registered already"),
            (self.left_out, "left out, named above"),
            (self.failed, "failed, named above"),
        ] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        text
    }

    fn say_failed(&self, error: &Error) {
        eprintln!("{}", error.report());
    }

    fn talk(&self, line: &str) {
        if !self.many && !self.json {
            eprintln!("{line}");
        }
    }

    fn put(&self, event: &serde_json::Value, line: Option<(&str, &Path)>) -> Result<(), Error> {
        match (self.json, line) {
            (true, _) => output::print(&format!("{event}\n"))?,
            (false, Some((id, path))) => output::print(&format!("{id}\t{}\n", path.display()))?,
            (false, None) => {}
        }
        Ok(())
    }
}

/// The file of `--report`, which appears under its name when all images were tried.
pub(in crate::commands) struct Reports(Output);

impl Reports {
    pub(in crate::commands) fn open(path: &Path) -> Result<Self, Error> {
        Ok(Self(Output::open(path, Existing::Keep)?))
    }

    fn add(&mut self, done: &Registration) -> Result<(), Error> {
        let suspicions: Vec<_> = done.notes.suspicions.iter().map(ToString::to_string).collect();
        let line = json!({
            "file": text(&done.path),
            "id": done.file.to_string(),
            "quarantined": done.notes.quarantined,
            "suspicions": suspicions,
            "deidentification": done.notes.report,
        });
        match &mut self.0 {
            Output::File(file) => writeln!(file.file(), "{line}").map_err(Error::Report),
            Output::Stdout => Ok(output::print(&format!("{line}\n"))?),
        }
    }

    fn finish(self) -> Result<(), Error> {
        match self.0 {
            Output::File(file) => Ok(file.finish()?),
            Output::Stdout => Ok(()),
        }
    }
}

fn recovery(recovered: Recovered) -> String {
    let Recovered { completed, taken_back, left } = recovered;
    let mut text = String::from("an interrupted registration was found");
    for (count, what) in [
        (completed, "was complete"),
        (taken_back, "taken back, to be made again"),
        (left, "cannot be taken back yet: key servers do not answer"),
    ] {
        if count > 0 {
            text += &format!("; {count} {what}");
        }
    }
    text
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
