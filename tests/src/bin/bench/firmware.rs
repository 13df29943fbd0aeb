//! Rows of the imaging device: instructions on an emulated Cortex-M4 (`-icount`, so that they are the same everywhere), flash and
//! memory of the board's programs. Peers are the bare primitives in the same build, or what is promised.

use std::{fs, path::Path};

use eds_tests::{
    Outcome, Trouble,
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
    let (flash, fixed) = weigh(&programs.join("device"))?;
    let stack = figure(&said, "stack")?;
    let seal_stack = of("seal_stack")?;
    let budget = |name, ours: f64, limit: f64| {
        Row::new(name, ours / 1024.0, "KiB", "budget", limit).promising(Target::Ours(limit))
    };
    Ok(vec![
        Row::new("firmware_seal_insn_vs_bare", seal, "insn/B", "bare AES-CTR + GHASH", bare)
            .promising(Target::Ratio(1.15)),
        Row::new("firmware_image_insn_per_byte", image, "insn/B", "bare AES-CTR + GHASH", bare),
        keys("firmware_split_2_of_3_minsn", "split_2_of_3")?,
        keys("firmware_split_3_of_5_minsn", "split_3_of_5")?,
        keys("firmware_start_minsn", "start")?,
        budget("firmware_ram_kib", fixed + stack, 16.0),
        budget("firmware_ram_seal_kib", seal_stack, 16.0),
        budget("firmware_flash_kib", flash, 96.0),
    ])
}

/// Flash (code, constants, initial values) and static memory of a program, from the section headers of its ELF file
/// (ELF-32, little-endian).
fn weigh(program: &Path) -> Outcome<(f64, f64)> {
    let file = fs::read(program)?;
    let word = |at: usize| -> Outcome<u32> {
        let bytes = file.get(at..at + 4).and_then(|bytes| bytes.first_chunk::<4>());
        bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or_else(|| Trouble::new("no ELF file"))
    };
    let (start, count) = (word(32)? as usize, word(48)? & 0xffff);
    let (mut flash, mut fixed) = (0u32, 0u32);
    for header in (0..count as usize).map(|number| start + 40 * number) {
        let (kind, flags, size) = (word(header + 4)?, word(header + 8)?, word(header + 20)?);
        let (nobits, writable, loaded) = (kind == 8, flags & 1 != 0, flags & 2 != 0);
        if loaded && !nobits {
            flash += size;
        }
        if loaded && writable {
            fixed += size;
        }
    }
    Ok((flash.into(), fixed.into()))
}
