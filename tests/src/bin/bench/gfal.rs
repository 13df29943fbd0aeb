//! Reading 500 MB and 1 MiB in the middle of it through GFAL2, beside the same read of a plain file by the same tool.
//!
//! Plain file and ciphertext lie in the same folder; copies go to memory. The tools run in turns.

use std::{fs, path::Path};

use eds_tests::{Outcome, cluster::Cluster, gfal::Gfal, give_up, trouble::During as _};

use crate::{
    measure::{Cost, cost, median},
    payload::{BYTES, same, write_sample},
    table::{Row, Target},
};

const ROUNDS: usize = 7;

/// Measures both.
pub(crate) fn rows(folder: &Path) -> Outcome<Vec<Row>> {
    let cluster = Cluster::of_three()?;
    let user = cluster.user("Grid")?;
    let gfal = Gfal::of(&user)?;
    let (plain, copy) = (user.home().join("plain"), folder.join("copy"));
    write_sample(&plain)?;
    let url = format!("eds:{}", user.eds(["register", "plain"])?.success().during("eds register")?.id());
    let plain_url = format!("file://{}", plain.display());
    let target = format!("file://{}", copy.display());

    let (mut ours, mut theirs): (Vec<Cost>, Vec<Cost>) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        ours.push(cost(&mut gfal.command("gfal-copy", ["-f", &url, &target]))?);
        if !same(&plain.display().to_string(), &copy.display().to_string())? {
            give_up!("gfal-copy gave something else than what was registered");
        }
        theirs.push(cost(&mut gfal.command("gfal-copy", ["-f", &plain_url, &target]))?);
    }
    fs::remove_file(&copy)?;
    let rate = |costs: &[Cost]| BYTES as f64 / 1e6 / median(costs.iter().map(|cost| cost.wall.as_secs_f64()));

    let said = gfal.python(MIDDLE, &[&url, &plain_url])?.success().during("reading in the middle")?.text();
    let Some((one, other)) = said.split_once(' ') else { give_up!("the program said {said:?}") };
    Ok(vec![
        Row::new("gfal_read_500mb_vs_plain", rate(&ours), "MB/s", "gfal-copy, plain file", rate(&theirs))
            .promising(Target::AtLeast(0.8)),
        Row::new("gfal_read_1mib_latency_vs_plain", one.parse()?, "ms", "gfal2, plain file", other.parse()?)
            .promising(Target::Ratio(1.3)),
    ])
}

/// 1 MiB at places around the middle, in turns of both files, which are open: the key is held. Prints the medians in ms.
const MIDDLE: &str = "\
import random, statistics, time
files = [c.open(url, 'r') for url in sys.argv[1:3]]
size = c.stat(sys.argv[2]).st_size
times = [[], []]
for turn in range(300):
    at = size // 2 + random.randrange(-size // 8, size // 8)
    got = []
    for file, times_of in zip(files, times):
        start = time.perf_counter()
        piece = file.pread_bytes(at, 1 << 20)
        times_of.append(time.perf_counter() - start)
        got.append(piece)
    assert got[0] == got[1] and len(got[0]) == 1 << 20
print(*(statistics.median(one) * 1000 for one in times))
";
