//! Rows of the imaging device: instructions on an emulated Cortex-M4 (`-icount`, so that they are the same everywhere), flash and
//! memory of the board's programs. Peers are the bare primitives in the same build, or what is promised.

use std::process::Command;

use eds_tests::{
    Outcome, Trouble,
    binaries::source_root,
    emulated::{Imaging, Machine, build, figure},
};
use tempfile::TempDir;

use super::table::{Row, Target};

/// All rows.
///
/// # Errors
/// When the board cannot be built or run.
pub(crate) fn rows() -> Outcome<Vec<Row>> {
    let programs = build()?;
    let folder = TempDir::with_prefix("eds-measure-")?;
    let mut machine = Machine::start(&programs.join("measure"), folder.path(), &["-icount", "shift=0"])?;
    machine.receive(|_, _| false)?;
    let (code, words) = machine.end()?;
    if code != 0 {
        return Err(Trouble::new(format!("the measuring program failed: {words}")));
    }
    let of = |name: &str| figure(&words, name);
    let bytes = of("bare_bytes")?;
    let (seal, bare) = (of("seal")? / bytes, of("bare")? / bytes);
    let image = (of("image")? - of("image_without_bytes")?) / bytes;
    let keys = |name, figure: &str| {
        Ok::<_, Trouble>(Row::new(name, of(figure)? / 1e6, "M", "seal of 1 MiB", seal * 1.048_576))
    };

    let imaging = Imaging::new()?;
    let mut machine = imaging.start()?;
    machine.receive(|_, _| false)?;
    let (_, said) = machine.end()?;
    let sizes = sizes()?;
    let [_, fixed, _] = size_of(&sizes, "device")?;
    let stack = figure(&said, "stack")?;
    let seal_stack = of("seal_stack")?;
    let budget = |name, ours: f64, limit: f64| {
        Row::new(name, ours / 1024.0, "KiB", "budget", limit).promising(Target::Ours(limit))
    };
    let mut rows = vec![
        Row::new("firmware_seal_insn_vs_bare", seal, "insn/B", "bare AES-CTR + GHASH", bare)
            .promising(Target::Ratio(1.15)),
        Row::new("firmware_image_insn_per_byte", image, "insn/B", "bare AES-CTR + GHASH", bare),
        keys("firmware_split_2_of_3_minsn", "split_2_of_3")?,
        keys("firmware_split_3_of_5_minsn", "split_3_of_5")?,
        keys("firmware_start_minsn", "start")?,
        budget("firmware_ram_kib", fixed + stack, 16.0),
        budget("firmware_ram_seal_kib", seal_stack, 16.0),
    ];
    for (part, row) in PARTS {
        let [flash, _, limit] = size_of(&sizes, part)?;
        rows.push(budget(row, flash, limit / 1024.0));
    }
    Ok(rows)
}

/// The programs that are weighed, and the rows of their flash.
const PARTS: [(&str, &str); 5] = [
    ("encrypt", "firmware_flash_encrypt_kib"),
    ("seal", "firmware_flash_seal_kib"),
    ("split", "firmware_flash_split_kib"),
    ("scan", "firmware_flash_scan_kib"),
    ("device", "firmware_flash_kib"),
];

/// What `firmware/size` says: for each part its name, flash and static memory in bytes, and its budget of flash. That a part is
/// over it is for the script to refuse; here it is a row like the others.
fn sizes() -> Outcome<Vec<(String, [f64; 3])>> {
    let output = Command::new(source_root().join("firmware/size")).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let part = |line: &str| {
        let (name, rest) = line.split_once(": ")?;
        let mut numbers = rest.split_whitespace().filter_map(|word| word.parse().ok());
        Some((name.to_owned(), [numbers.next()?, numbers.next()?, numbers.next()?]))
    };
    let parts: Vec<_> = said.lines().filter_map(part).collect();
    if parts.len() >= PARTS.len() {
        Ok(parts)
    } else {
        Err(Trouble::new(format!("firmware/size: {said}{}", String::from_utf8_lossy(&output.stderr))))
    }
}

fn size_of(sizes: &[(String, [f64; 3])], part: &str) -> Outcome<[f64; 3]> {
    let found = sizes.iter().find(|(name, _)| name == part).map(|(_, sizes)| *sizes);
    found.ok_or_else(|| Trouble::new(format!("firmware/size does not say {part}")))
}
