//! The kernel's questions, answered by [`Files`].

use std::{
    ffi::OsStr,
    io,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, UNIX_EPOCH},
};

use fuser::{
    AccessFlags, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    MountOption, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyOpen,
    Request, Session, SessionACL,
};
use rustix::process::{getegid, geteuid};
use zeroize::Zeroizing;

use super::{
    Options,
    files::{Files, ROOT, Refusal},
};
use crate::journey::tree::Node;

/// The file system that the kernel talks to.
pub(super) struct Kernel {
    files: Arc<Files>,
    /// How a file is opened.
    flags: FopenFlags,
}

/// Mounts; nothing is served before the session runs.
pub(super) fn mount(files: Arc<Files>, folder: &Path, options: Options) -> io::Result<Session<Kernel>> {
    let mut config = Config::default();
    config.acl = SessionACL::Owner;
    config.n_threads = Some(thread::available_parallelism().map_or(1, usize::from).clamp(2, MAX_THREADS));
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::NoAtime,
        MountOption::DefaultPermissions,
        MountOption::FSName("eds".into()),
        MountOption::Subtype("eds".into()),
    ];
    // The pages that the kernel would keep are plaintext.
    let flags = if options.page_cache { FopenFlags::empty() } else { FopenFlags::FOPEN_DIRECT_IO };
    Session::new(Kernel { files, flags }, folder, &config)
}

impl Filesystem for Kernel {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        // Names of ours are ASCII.
        let found = name.to_str().ok_or(Refusal::NotFound).and_then(|name| self.files.look_up(parent.0, name));
        match found {
            Ok((number, node)) => reply.entry(&VALID, &attributes(number, &node), Generation(0)),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn forget(&self, _: &Request, number: INodeNo, times: u64) {
        self.files.forget(number.0, times);
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.files.about(number.0) {
            Ok(node) => reply.attr(&VALID, &attributes(number.0, &node)),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn access(&self, _: &Request, _: INodeNo, _: AccessFlags, reply: ReplyEmpty) {
        // The kernel decides by the modes; the key servers when a file is opened.
        reply.ok();
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        match self.files.open(number.0) {
            Ok(handle) => reply.opened(FileHandle(handle), self.flags),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut buffer = Zeroizing::new(vec![0; usize::try_from(size).unwrap_or(0)]);
        match self.files.read(handle.0, offset, &mut buffer) {
            Ok(read) => reply.data(buffer.get(..read).unwrap_or_default()),
            Err(refusal) => reply.error(errno(refusal)),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.close(handle.0);
        reply.ok();
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn readdir(&self, _: &Request, folder: INodeNo, _: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let names = match self.files.list(folder.0) {
            Ok(names) => names,
            Err(refusal) => return reply.error(errno(refusal)),
        };
        let dots = [(".", true), ("..", true)];
        let all = dots.into_iter().chain(names.iter().map(|name| (name.text.as_str(), name.folder)));
        for (next, (name, folder)) in (1..).zip(all).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            // The number is a hint, which the kernel replaces when it looks the name up.
            if reply.add(INodeNo(UNKNOWN), next, kind(folder), name) {
                break;
            }
        }
        reply.ok();
    }
}

fn attributes(number: u64, node: &Node) -> FileAttr {
    let (size, created) = match node {
        Node::Folder => (0, UNIX_EPOCH),
        Node::File(about) => (about.size, about.created),
    };
    let folder = matches!(node, Node::Folder);
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: created,
        mtime: created,
        ctime: created,
        crtime: created,
        kind: kind(folder),
        perm: if folder { 0o500 } else { 0o400 },
        nlink: if folder { 2 } else { 1 },
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

const fn kind(folder: bool) -> FileType {
    if folder { FileType::Directory } else { FileType::RegularFile }
}

const fn errno(refusal: Refusal) -> Errno {
    match refusal {
        Refusal::NotFound => Errno::ENOENT,
        Refusal::NotAFolder => Errno::ENOTDIR,
        Refusal::IsAFolder => Errno::EISDIR,
        Refusal::Denied => Errno::EACCES,
        Refusal::TryAgain => Errno::EAGAIN,
        Refusal::Damaged => Errno::EIO,
        Refusal::Closed => Errno::EBADF,
    }
}

/// How long the kernel may believe what it was told of a name.
const VALID: Duration = Duration::from_secs(1);
/// Reads of a multiple of this decrypt nothing twice.
const BLOCK: u32 = 16 * 1024;
/// More would wait for the storage, and for each other.
const MAX_THREADS: usize = 8;
/// The number of what was not looked up yet, as libfuse has it.
const UNKNOWN: u64 = 0xffff_ffff;

const _: () = assert!(ROOT == 1, "the kernel's protocol says so");
