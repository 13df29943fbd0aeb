//! The data path alone, without key servers: `payload seal|open IN OUT [THREADS]`, under a fixed test key. For measuring;
//! `-` is standard input or output.

use std::{
    error::Error,
    fs::File,
    io::{stdin, stdout},
    num::NonZero,
};

use eds::payload::{Container, Header, Options, Source, Target, seal};
use eds_core::{
    cipher::InputKey,
    ids::{Epoch, FileId, KeyId},
};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(verb), Some(input), Some(output)) = (arguments.next(), arguments.next(), arguments.next()) else {
        return Err("usage: payload seal|open IN OUT [THREADS]".into());
    };
    let mut options = Options::default();
    if let Some(threads) = arguments.next() {
        options.threads = Some(threads.parse::<NonZero<usize>>()?);
    }
    // Not a secret: this program measures.
    let key = InputKey::from_bytes([0x42; 32]);
    let header = Header {
        file: FileId::from_bytes([1; 16]),
        key: KeyId::from_bytes([2; 16]),
        epoch: Epoch::new(0),
        anchor: [3; 32],
    };
    let file = if output == "-" { None } else { Some(File::create(&output)?) };
    let mut stdout = stdout().lock();
    let target = file.as_ref().map_or_else(|| Target::Stream(&mut stdout), Target::File);
    match verb.as_str() {
        "seal" if input == "-" => drop(seal(&mut stdin(), target, &key, &header, &options)?),
        "seal" => drop(seal(&mut File::open(&input)?, target, &key, &header, &options)?),
        "open" if input == "-" => {
            let mut stdin = stdin().lock();
            Container::read(Source::Stream(&mut stdin))?.unlock(&key)?.copy_to(target, &options)?;
        }
        "open" => {
            let mut input = File::open(&input)?;
            Container::read(Source::of_file(&mut input)?)?.unlock(&key)?.copy_to(target, &options)?;
        }
        _ => return Err("usage: payload seal|open IN OUT [THREADS]".into()),
    }
    Ok(())
}
