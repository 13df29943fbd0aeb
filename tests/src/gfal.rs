//! GFAL2 as Debian has it, with this workspace's plugin beside Debian's: its command line tools, its Python module, and C
//! programs, also under valgrind.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    Outcome, binaries, give_up,
    trouble::During as _,
    user::{Run, User, run},
};

/// A user's GFAL2: a folder of plugins, and settings.
#[derive(Clone, Debug)]
pub struct Gfal {
    user: User,
    folder: PathBuf,
}

impl Gfal {
    /// Makes the folder of plugins: Debian's for local files, and ours.
    ///
    /// # Errors
    /// When a plugin is not there.
    pub fn of(user: &User) -> Outcome<Self> {
        let folder = user.home().join("gfal");
        let (plugins, settings) = (folder.join("plugins"), folder.join("settings"));
        fs::create_dir_all(&plugins)?;
        fs::create_dir_all(&settings)?;
        for plugin in [binaries::find("libgfal_plugin_eds.so")?, debian_plugin("libgfal_plugin_file.so")?] {
            let name = plugin.file_name().unwrap_or_default();
            symlink(&plugin, plugins.join(name)).during(plugin.display())?;
        }
        Ok(Self { user: user.clone(), folder })
    }

    /// A program in the user's folder and with the user's settings, that finds these plugins.
    pub fn command<I: IntoIterator<Item: AsRef<OsStr>>>(&self, program: &str, arguments: I) -> Command {
        // A shell gives the environment of a user.
        let mut command = self.user.shell("exec \"$@\"");
        command.arg("sh").arg(program).args(arguments);
        command.env("GFAL_PLUGIN_DIR", self.folder.join("plugins"));
        command.env("GFAL_CONFIG_DIR", self.folder.join("settings"));
        command.env("GFAL_PYTHONBIN", PYTHON);
        command
    }

    /// Runs one of GFAL2's tools.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn tool<I: IntoIterator<Item: AsRef<OsStr>>>(&self, program: &str, arguments: I) -> Outcome<Run> {
        run(&mut self.command(program, arguments))
    }

    /// Runs a program in Python, with `gfal2` and a context `c`, and these arguments in `sys.argv`.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn python(&self, program: &str, arguments: &[&str]) -> Outcome<Run> {
        let program = format!("import sys, gfal2\nc = gfal2.creat_context()\n{program}");
        self.tool(PYTHON, ["-c", &program].iter().chain(arguments))
    }

    /// Compiles a C program against GFAL2 and returns its path.
    ///
    /// # Errors
    /// When it does not compile.
    pub fn compile(&self, name: &str, source: &str) -> Outcome<PathBuf> {
        let (text, program) = (self.folder.join(name).with_extension("c"), self.folder.join(name));
        fs::write(&text, source)?;
        let flags = Command::new("pkg-config").args(["--cflags", "--libs", "gfal2"]).output().during("pkg-config")?;
        let flags = String::from_utf8_lossy(&flags.stdout).into_owned();
        let mut compiler = Command::new("cc");
        compiler.args(["-g", "-Wall", "-Werror", "-pthread", "-o"]).arg(&program).arg(&text);
        run(compiler.args(flags.split_whitespace()))?.success().during("cc")?;
        Ok(program)
    }

    /// Runs a program under valgrind; returns what it did, and what valgrind has against our plugin: each error or
    /// definite leak in whose stack it is.
    ///
    /// # Errors
    /// When valgrind cannot be started, or wrote no report.
    pub fn valgrind(&self, program: &Path, arguments: &[&str]) -> Outcome<(Run, Vec<String>)> {
        let report = self.folder.join("valgrind.xml");
        let mut words: Vec<&OsStr> = VALGRIND.iter().map(OsStr::new).collect();
        let place = format!("--xml-file={}", report.display());
        words.extend([place.as_ref(), program.as_os_str()]);
        words.extend(arguments.iter().map(OsStr::new));
        let done = self.tool("valgrind", words)?;
        let report = fs::read_to_string(&report).during(report.display())?;
        if !report.contains("</valgrindoutput>") {
            give_up!("valgrind did not finish its report:\n{}", done.stderr);
        }
        Ok((done, against("libgfal_plugin_eds", &report)))
    }
}

/// The errors of a report in whose stacks this library is.
fn against(library: &str, report: &str) -> Vec<String> {
    let errors = report.split("<error>").skip(1).filter_map(|error| Some(error.split_once("</error>")?.0));
    errors.filter(|error| error.contains(library)).map(str::to_owned).collect()
}

fn debian_plugin(name: &str) -> Outcome<PathBuf> {
    for folder in fs::read_dir("/usr/lib").during("/usr/lib")? {
        let plugin = folder?.path().join("gfal2-plugins").join(name);
        if plugin.is_file() {
            return Ok(plugin);
        }
    }
    give_up!("{name} is not installed: run `make setup`")
}

/// Debian's, which has the module.
const PYTHON: &str = "/usr/bin/python3";

const VALGRIND: [&str; 6] = [
    "--quiet",
    "--leak-check=full",
    "--show-leak-kinds=definite",
    "--num-callers=60",
    "--keep-debuginfo=yes",
    "--xml=yes",
];

#[cfg(test)]
mod tests {
    use super::against;

    #[test]
    fn what_valgrind_has_against_a_library_is_found() {
        let report = "<valgrindoutput><error><kind>Leak_DefinitelyLost</kind><stack><obj>/x/libours.so</obj></stack></error>\
                      <error><kind>InvalidRead</kind><stack><obj>/x/libother.so</obj></stack></error></valgrindoutput>";
        assert_eq!(against("libours", report).len(), 1);
        assert!(against("libours", report).iter().all(|error| error.contains("Leak_DefinitelyLost")));
        assert!(against("libnone", report).is_empty());
    }
}
