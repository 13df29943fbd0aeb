//! Tools of the grid read what EDS keeps, by Debian's GFAL2 and the plugin of this workspace: plain files come out, and what
//! must not come out is refused with the errno that a program goes by.

use std::{fs, path::Path};

use aws_lc_rs::digest;
use eds_tests::{Outcome, cluster::Cluster, files, gfal::Gfal, sample, user::User};

struct Case {
    cluster: Cluster,
    alice: User,
    gfal: Gfal,
    content: Vec<u8>,
    id: String,
}

impl Case {
    /// A registered file of so many bytes.
    fn of(length: usize) -> Outcome<Self> {
        let cluster = Cluster::of_three()?;
        let alice = cluster.user("alice")?;
        let gfal = Gfal::of(&alice)?;
        let content = sample::bytes("a file of the grid", length);
        fs::write(alice.home().join("plain"), &content)?;
        let id = alice.eds(["register", "plain"])?.success()?.id();
        Ok(Self { cluster, alice, gfal, content, id })
    }

    fn url(&self) -> String {
        format!("eds:{}", self.id)
    }

    /// What Python's `gfal2` says of an error: its number and its text.
    fn error(&self, gfal: &Gfal, call: &str, url: &str) -> Outcome<(i32, String)> {
        let program = format!(
            "try:\n    {call}\nexcept gfal2.GError as e:\n    print(e.code, e.message)\nelse:\n    print(0, 'no error')"
        );
        let said = gfal.python(&program, &[url])?.success()?.text();
        let (code, text) = said.split_once(' ').unwrap_or_default();
        Ok((code.parse()?, text.to_owned()))
    }
}

const READ: &str = "c.open(sys.argv[1], 'r').read_bytes(10)";
const STAT: &str = "c.stat(sys.argv[1])";

#[test]
fn tools_see_a_plain_file_where_storage_holds_ciphertext() -> Outcome {
    let case = Case::of(3 * 1024 * 1024 + 123)?;
    let url = case.url();
    let said = case.gfal.tool("gfal-stat", [&url])?.success()?.text();
    assert!(said.contains(&format!("Size: {}", case.content.len())) && said.contains("regular file"), "{said}");
    case.gfal.tool("gfal-copy", [&url, &file_url(case.alice.home(), "copy")])?.success()?;
    assert!(fs::read(case.alice.home().join("copy"))? == case.content, "gfal-copy");
    let said = case.gfal.tool("gfal-ls", ["-l", &url])?.success()?.text();
    assert!(said.contains(&case.content.len().to_string()), "{said}");
    assert_eq!(case.gfal.tool("gfal-xattr", [&url, "user.guid"])?.success()?.text(), case.id);
    let stored = fs::read(files::only(&case.alice.objects())?)?;
    // Debian's gfal-cat reads text alone: it decodes each 65,000 bytes as UTF-8, whatever the URL.
    let text = "what a researcher wrote down\n".repeat(10_000);
    fs::write(case.alice.home().join("text"), &text)?;
    let noted = case.alice.eds(["register", "text"])?.success()?.id();
    assert!(case.gfal.tool("gfal-cat", [format!("eds:{noted}")])?.success()?.stdout == text.as_bytes(), "gfal-cat");
    assert!(!files::contains(&stored, case.content.get(..64).unwrap_or_default()), "storage holds ciphertext");
    Ok(())
}

#[test]
fn checksums_are_those_of_the_plaintext() -> Outcome {
    let case = Case::of(1_500_000)?;
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let (low, high) = case.content.iter().fold((1u32, 0u32), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % 65_521;
        (low, (high + low) % 65_521)
    });
    fs::write(case.alice.home().join("sums.py"), MD5)?;
    let md5 = case.gfal.tool("/usr/bin/python3", ["sums.py", "plain"])?.success()?.text();
    for (name, sum) in [
        ("ADLER32", format!("{:08x}", high << 16 | low)),
        ("MD5", md5),
        ("sha256", hex(digest::digest(&digest::SHA256, &case.content).as_ref())),
        ("SHA512", hex(digest::digest(&digest::SHA512, &case.content).as_ref())),
    ] {
        let said = case.gfal.tool("gfal-sum", [case.url().as_str(), name])?.success()?.text();
        assert_eq!(said.split_whitespace().last(), Some(sum.as_str()), "{name}");
    }
    let (code, text) = case.error(&case.gfal, "c.checksum(sys.argv[1], 'CRC99')", &case.url())?;
    assert_eq!(code, errno::ENOTSUP, "{text}");
    assert!(text.contains("adler32"), "{text}");
    Ok(())
}

#[test]
fn many_threads_read_anywhere() -> Outcome {
    let case = Case::of(5_000_000)?;
    let said = case.gfal.python(THREADS, &[&case.url(), "plain"])?.success()?.text();
    assert_eq!(said, "same");
    Ok(())
}

#[test]
fn a_child_reads_what_its_parent_read_before_the_fork() -> Outcome {
    let case = Case::of(700_000)?;
    let said = case.gfal.python(FORK, &[&case.url(), "plain"])?.success()?.text();
    assert_eq!(said, "child same\nchild refused 9\nparent same");
    Ok(())
}

#[test]
fn who_is_not_permitted_gets_eacces_and_no_byte() -> Outcome {
    let case = Case::of(1000)?;
    let bob = case.cluster.user("bob")?;
    // Bob works with the same storage and the same catalog.
    let settings = fs::read_to_string(bob.config())?;
    let shared = ["objects", "catalog.sqlite", "metadata.sqlite"].iter().fold(settings, |text, name| {
        text.replace(&format!("path = {name:?}"), &format!("path = {:?}", case.alice.home().join(name)))
    });
    fs::write(bob.config(), shared)?;
    let gfal = Gfal::of(&bob)?;
    let (code, text) = case.error(&gfal, READ, &case.url())?;
    assert_eq!(code, errno::EACCES, "{text}");
    assert!(text.contains("node 1"), "{text}");
    let refused = gfal.tool("gfal-copy", [&case.url(), &file_url(bob.home(), "copy")])?;
    assert_eq!(refused.code, Some(errno::EACCES), "{}", refused.stderr);
    assert!(!bob.home().join("copy").exists());
    // He may look at what the catalog tells.
    assert_eq!(case.error(&gfal, STAT, &case.url())?.0, 0);
    Ok(())
}

#[test]
fn what_nobody_registered_is_not_found() -> Outcome {
    let case = Case::of(1000)?;
    for url in ["eds:01234567-89ab-cdef-0123-456789abcdef", "guid:01234567-89ab-cdef-0123-456789abcdef", "eds:/no/name"]
    {
        for call in [STAT, READ] {
            let (code, text) = case.error(&case.gfal, call, url)?;
            assert_eq!(code, errno::ENOENT, "{call} {url}: {text}");
        }
    }
    assert_eq!(case.error(&case.gfal, STAT, "eds:no-id")?.0, errno::EINVAL);
    assert_eq!(case.gfal.tool("gfal-stat", ["eds:/no/name"])?.code, Some(errno::ENOENT));
    Ok(())
}

#[test]
fn too_few_key_servers_are_an_error_that_may_pass() -> Outcome {
    let mut case = Case::of(400_000)?;
    for number in 1..=2 {
        case.cluster.node(number)?.kill()?;
    }
    let (code, text) = case.error(&case.gfal, READ, &case.url())?;
    assert_eq!(code, errno::EAGAIN, "{text}");
    assert!(text.contains("node 1") && text.contains("node 2"), "{text}");
    case.cluster.node(1)?.start()?;
    assert_eq!(case.error(&case.gfal, READ, &case.url())?.0, 0);
    Ok(())
}

#[test]
fn damage_is_named_and_what_is_sound_is_read() -> Outcome {
    let case = Case::of(100 * 16_384 + 5)?;
    let stored = files::only(&case.alice.objects())?;
    let mut bytes = fs::read(&stored)?;
    let chunks = bytes.len() - (100 * 16_400 + 5 + 16);
    let at = chunks + 40 * 16_400 + 7;
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    fs::write(&stored, &bytes)?;
    let (code, text) = case.error(&case.gfal, "c.open(sys.argv[1], 'r').pread_bytes(40 * 16384, 10)", &case.url())?;
    assert_eq!(code, errno::EIO, "{text}");
    assert!(text.contains(&case.id) && text.contains("655360"), "{text}");
    assert_eq!(case.error(&case.gfal, "c.open(sys.argv[1], 'r').pread_bytes(41 * 16384, 10)", &case.url())?.0, 0);
    let copied = case.gfal.tool("gfal-copy", [&case.url(), &file_url(case.alice.home(), "copy")])?;
    assert_eq!(copied.code, Some(errno::EIO), "{}", copied.stderr);
    // Another container in its place is refused before its key is asked for.
    fs::write(&stored, b"no container")?;
    assert_eq!(case.error(&case.gfal, READ, &case.url())?.0, errno::EIO);
    Ok(())
}

#[test]
fn valgrind_has_nothing_against_the_plugin() -> Outcome {
    let case = Case::of(600_000)?;
    let program = case.gfal.compile("driver", DRIVER)?;
    let plain = case.alice.home().join("plain");
    let arguments = [case.url(), plain.to_string_lossy().into_owned()];
    let (done, against) = case.gfal.valgrind(&program, &[&arguments[0], &arguments[1]])?;
    done.success()?;
    assert!(against.is_empty(), "{}", against.join("\n"));
    Ok(())
}

fn file_url(home: &Path, name: &str) -> String {
    format!("file://{}", home.join(name).display())
}

/// Numbers of Linux, as programs see them.
mod errno {
    pub(crate) const ENOENT: i32 = 2;
    pub(crate) const EIO: i32 = 5;
    pub(crate) const EAGAIN: i32 = 11;
    pub(crate) const EACCES: i32 = 13;
    pub(crate) const EINVAL: i32 = 22;
    pub(crate) const ENOTSUP: i32 = 95;
}

const MD5: &str = "import hashlib, sys\nprint(hashlib.md5(open(sys.argv[1], 'rb').read()).hexdigest())\n";

/// Threads with a file of their own, and threads that share one.
const THREADS: &str = "\
import random, threading
url, plain = sys.argv[1], open(sys.argv[2], 'rb').read()
shared = c.open(url, 'r')
wrong = []
def work(seed):
    try:
        r = random.Random(seed)
        own = c.open(url, 'r') if seed % 2 else shared
        for _ in range(40):
            at, length = r.randrange(len(plain)), r.choice([1, 100, 16384, 70000, 300000])
            if own.pread_bytes(at, length) != plain[at:at + length]:
                wrong.append((seed, at, length))
        if seed % 2:
            own.lseek(-1000, 2)
            if own.read_bytes(5000) != plain[-1000:] or own.read_bytes(1) != b'':
                wrong.append((seed, 'end'))
    except Exception as e:
        wrong.append((seed, repr(e)))
threads = [threading.Thread(target=work, args=(seed,)) for seed in range(12)]
[t.start() for t in threads]
[t.join() for t in threads]
print('same' if not wrong else wrong)
";

/// A child with its parent's context, and with a file that its parent opened and has threads read ahead in.
const FORK: &str = "\
import os
url, plain = sys.argv[1], open(sys.argv[2], 'rb').read()
f = c.open(url, 'r')
begin = f.read_bytes(300000)
child = os.fork()
if child == 0:
    g = c.open(url, 'r')
    print('child', 'same' if g.pread_bytes(1000, 50000) == plain[1000:51000] else 'differs')
    try:
        f.read_bytes(1)
        print('child read')
    except gfal2.GError as e:
        print('child refused', e.code)
    del f, g, c
    sys.stdout.flush()
    os._exit(0)
os.waitpid(child, 0)
print('parent', 'same' if begin + f.read_bytes(len(plain)) == plain else 'differs')
";

/// Opens, reads in every way, in threads, fails in every way, and closes.
const DRIVER: &str = r#"
#include <gfal_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static gfal2_context_t context;
static const char *url;
static char *plain;
static size_t length;

static void check(int good, const char *what) {
    if (!good) { fprintf(stderr, "failed: %s\n", what); exit(1); }
}

static void *reader(void *seed) {
    unsigned state = (unsigned)(size_t)seed;
    GError *error = NULL;
    int fd = gfal2_open(context, url, O_RDONLY, &error);
    check(fd >= 0, "open");
    char *buffer = malloc(70000);
    for (int i = 0; i < 6; i++) {
        size_t at = rand_r(&state) % length, want = 1 + rand_r(&state) % 70000;
        ssize_t got = gfal2_pread(context, fd, buffer, want, at, &error);
        check(got == (ssize_t)(want < length - at ? want : length - at), "pread");
        check(memcmp(buffer, plain + at, got) == 0, "what was read");
    }
    size_t done = 0;
    ssize_t got;
    while ((got = gfal2_read(context, fd, buffer, 65536, &error)) > 0) {
        check(memcmp(buffer, plain + done, got) == 0, "what was read in turn");
        done += got;
    }
    check(got == 0 && done == length, "the end");
    check(gfal2_lseek(context, fd, 5, SEEK_SET, &error) == 5, "lseek");
    check(gfal2_close(context, fd, &error) == 0, "close");
    free(buffer);
    return NULL;
}

int main(int argc, char **argv) {
    GError *error = NULL;
    url = argv[1];
    FILE *file = fopen(argv[2], "rb");
    check(file != NULL, "the plain file");
    fseek(file, 0, SEEK_END);
    length = ftell(file);
    rewind(file);
    plain = malloc(length);
    check(fread(plain, 1, length, file) == length, "the plain file");
    fclose(file);
    context = gfal2_context_new(&error);
    check(context != NULL, "a context");
    struct stat about;
    check(gfal2_stat(context, url, &about, &error) == 0 && (size_t)about.st_size == length, "stat");
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++) pthread_create(&threads[i], NULL, reader, (void *)i);
    for (size_t i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    char sum[200];
    check(gfal2_checksum(context, url, "ADLER32", 0, 0, sum, sizeof sum, &error) == 0 && strlen(sum) == 8, "checksum");
    char id[100];
    check(gfal2_getxattr(context, url, "user.guid", id, sizeof id, &error) == 36, "getxattr");
    check(gfal2_listxattr(context, url, id, sizeof id, &error) > 0, "listxattr");
    check(gfal2_stat(context, "eds:/no/name", &about, &error) < 0 && error->code == ENOENT, "an unknown name");
    g_clear_error(&error);
    check(gfal2_open(context, "eds:nothing", O_RDONLY, &error) < 0 && error->code == EINVAL, "no name");
    g_clear_error(&error);
    check(gfal2_checksum(context, url, "CRC99", 0, 0, sum, sizeof sum, &error) < 0, "an unknown checksum");
    g_clear_error(&error);
    gfal2_context_free(context);
    free(plain);
    puts("done");
    return 0;
}
"#;
