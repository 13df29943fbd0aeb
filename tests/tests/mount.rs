//! Any program opens registered files in a folder that `eds mount` serves, over the kernel's FUSE: what is there, what it holds,
//! who gets in, and what is left when it ends.
//!
//! A machine without /dev/fuse, or where this user may not mount, cannot run these: there the same operations are tested below
//! the kernel's protocol (`host-cli/src/mount/files/tests.rs`), and each of these tests says that it could not be run.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::{fs::FileExt as _, fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use eds_tests::{Outcome, cluster::Cluster, dicom, files, process::Process, sample, user::User};

struct Case {
    // Ends before the cluster, whose folder it is in.
    mounted: Process,
    folder: Folder,
    alice: User,
    cluster: Cluster,
    content: Vec<u8>,
    id: String,
    image: String,
}

/// The folder. A test that fails leaves no mount behind.
struct Folder(PathBuf);

impl std::ops::Deref for Folder {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if is_mounted(&self.0).unwrap_or(true) {
            let _ = Command::new("umount").arg("-l").arg(&self.0).output();
        }
    }
}

impl Case {
    /// A mounted folder with a file of 3 MB and an image; nothing where this machine cannot mount.
    fn new(options: &[&str]) -> Outcome<Option<Self>> {
        if let Err(why) = File::options().read(true).write(true).open("/dev/fuse") {
            eprintln!("not run: /dev/fuse cannot be used here ({why})");
            return Ok(None);
        }
        let cluster = Cluster::of_three()?;
        let alice = cluster.user("alice")?;
        let content = sample::bytes("a file in a folder", 3_000_017);
        fs::write(alice.home().join("plain"), &content)?;
        let id = alice.eds(["register", "plain"])?.success()?.id();
        fs::copy(dicom::ct_small()?, alice.home().join("scan.dcm"))?;
        let image = alice.eds(["register", "scan.dcm"])?.success()?.id();
        let folder = Folder(alice.home().join("mounted"));
        fs::create_dir(&*folder)?;
        let mut command = alice.command(["mount", "mounted"]);
        command.args(options);
        let mut mounted = Process::start("eds mount", &mut command, &alice.home().join("mount.log"))?;
        mounted.wait_for("mounted ", PATIENCE)?;
        Ok(Some(Self { mounted, folder, alice, cluster, content, id, image }))
    }

    fn file(&self) -> PathBuf {
        self.folder.join("files").join(&self.id)
    }

    /// What waits for the end, also when the test fails: nothing is mounted then.
    fn end(self) -> Outcome {
        let status = self.mounted.end()?;
        assert!(status.success(), "{status}");
        assert!(!is_mounted(&self.folder)?, "it is still mounted");
        Ok(())
    }
}

#[test]
fn any_program_reads_files_and_images() -> Outcome {
    let Some(case) = Case::new(&[])? else { return Ok(()) };
    assert_eq!(files::names(&case.folder)?, ["files", "images"]);
    let mut ids = vec![case.id.clone(), case.image.clone()];
    ids.sort();
    assert_eq!(files::names(&case.folder.join("files"))?, ids);
    assert!(fs::read(case.file())? == case.content, "from front to back");
    let about = fs::metadata(case.file())?;
    assert_eq!((about.len(), about.mode() & 0o777), (case.content.len() as u64, 0o400));
    let mut middle = vec![0; 100_000];
    File::open(case.file())?.read_exact_at(&mut middle, 1_234_567)?;
    assert!(middle == case.content.get(1_234_567..1_334_567).unwrap_or_default(), "in the middle");
    // The image, by patient, study and series, is the one that `eds retrieve` gives.
    case.alice.eds(["retrieve", &case.image, "-o", "retrieved.dcm"])?.success()?;
    let image = files::only(&case.folder.join("images"))?;
    assert_eq!(image.file_name().and_then(|name| name.to_str()), Some(format!("{}.dcm", case.image).as_str()));
    assert_eq!(image.strip_prefix(&*case.folder)?.components().count(), 5);
    assert_eq!(fs::read(&image)?, fs::read(case.alice.home().join("retrieved.dcm"))?);
    assert!(!image.to_string_lossy().contains("CompressedSamples"), "the patient's name is in no path");
    case.end()
}

#[test]
fn nothing_can_be_changed_and_what_is_not_there_is_not_found() -> Outcome {
    let Some(case) = Case::new(&[])? else { return Ok(()) };
    let files = case.folder.join("files");
    let kinds = [
        fs::write(files.join("new"), b"x").map_err(|error| error.raw_os_error()),
        fs::remove_file(case.file()).map_err(|error| error.raw_os_error()),
        File::options().append(true).open(case.file()).map(drop).map_err(|error| error.raw_os_error()),
    ];
    assert_eq!(kinds, [Err(Some(EROFS)); 3]);
    for name in ["files/nothing", "files/01234567-89ab-cdef-0123-456789abcdef", "images/x", "nothing"] {
        assert_eq!(fs::metadata(case.folder.join(name)).expect_err(name).kind(), io::ErrorKind::NotFound, "{name}");
    }
    case.end()
}

#[test]
fn nobody_else_gets_in() -> Outcome {
    let Some(case) = Case::new(&[])? else { return Ok(()) };
    if rustix::process::geteuid().is_root() {
        let mut other = Command::new("ls");
        let listed = other.arg(&*case.folder).uid(65_534).output()?;
        assert!(!listed.status.success());
        let said = String::from_utf8_lossy(&listed.stderr).into_owned();
        assert!(said.contains("ermission denied"), "{said}");
    }
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let line = mounts.lines().find(|line| line.contains("mounted fuse")).unwrap_or_default().to_owned();
    assert!(line.contains("nosuid,nodev,noexec") && line.contains("ro,"), "{line}");
    assert!(!line.contains("allow_other"), "{line}");
    case.end()
}

#[test]
fn the_kernel_keeps_no_plaintext_unless_it_may() -> Outcome {
    for (options, kept) in [(&[][..], false), (&["--page-cache"][..], true)] {
        let Some(case) = Case::new(options)? else { return Ok(()) };
        let mut file = File::open(case.file())?;
        let mut all = Vec::new();
        file.read_to_end(&mut all)?;
        assert!(all == case.content);
        // The program that serves is stopped: what can be read now is what the kernel has kept.
        case.mounted.pause()?;
        let read = {
            let file = file.try_clone()?;
            let (sender, receiver) = std::sync::mpsc::channel();
            let reader = std::thread::spawn(move || {
                let read = file.read_exact_at(&mut [0; 4096], 0);
                let _ = sender.send(read.is_ok());
            });
            let read = receiver.recv_timeout(Duration::from_secs(2)).is_ok();
            case.mounted.resume()?;
            reader.join().map_err(|_| eds_tests::Trouble::new("the reader panicked"))?;
            read
        };
        assert_eq!(read, kept, "{options:?}");
        case.end()?;
    }
    Ok(())
}

#[test]
fn refusals_reach_the_program_and_pass() -> Outcome {
    let Some(mut case) = Case::new(&[])? else { return Ok(()) };
    let mut open = File::open(case.file())?;
    for number in 1..=2 {
        case.cluster.node(number)?.kill()?;
    }
    assert_eq!(File::open(case.file()).expect_err("too few servers").raw_os_error(), Some(EAGAIN));
    let mut all = Vec::new();
    open.read_to_end(&mut all)?;
    assert!(all == case.content, "what is open needs no key server");
    case.cluster.node(1)?.start()?;
    assert!(fs::read(case.file())? == case.content);
    let stored = files::below(&case.alice.objects())?;
    for object in stored {
        let mut bytes = fs::read(&object)?;
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        fs::write(&object, bytes)?;
    }
    assert_eq!(fs::read(case.file()).expect_err("damaged").raw_os_error(), Some(EIO));
    case.end()
}

#[test]
fn the_end_takes_open_files_along() -> Outcome {
    let Some(case) = Case::new(&[])? else { return Ok(()) };
    let open = File::open(case.file())?;
    let mut byte = [0; 1];
    open.read_exact_at(&mut byte, 0)?;
    case.end()?;
    assert!(open.read_exact_at(&mut byte, 1_000_000).is_err(), "it is gone");
    Ok(())
}

#[test]
fn somebodys_umount_ends_it_too() -> Outcome {
    let Some(case) = Case::new(&[])? else { return Ok(()) };
    let unmounted = Command::new("umount").arg(&*case.folder).status()?;
    assert!(unmounted.success());
    assert!(case.mounted.ended_within(PATIENCE)?.success());
    assert!(!is_mounted(&case.folder)?);
    Ok(())
}

fn is_mounted(folder: &Path) -> Outcome<bool> {
    let place = folder.to_string_lossy().into_owned();
    Ok(fs::read_to_string("/proc/self/mounts")?.lines().any(|line| line.split(' ').nth(1) == Some(place.as_str())))
}

const PATIENCE: Duration = Duration::from_secs(60);
const EIO: i32 = 5;
const EAGAIN: i32 = 11;
const EROFS: i32 = 30;
