//! The layout of the structure, against the header of the GFAL2 that is installed.

use std::{
    fs,
    mem::{offset_of, size_of},
    process::Command,
};

use super::{Interface, operation};

/// Name in C, offset in Rust.
const FIELDS: [(&str, usize); 33] = [
    ("gfal_data", offset_of!(Interface, gfal_data)),
    ("plugin_data", offset_of!(Interface, plugin_data)),
    ("priority", offset_of!(Interface, priority)),
    ("getName", offset_of!(Interface, get_name)),
    ("plugin_delete", offset_of!(Interface, plugin_delete)),
    ("check_plugin_url", offset_of!(Interface, check_plugin_url)),
    ("accessG", offset_of!(Interface, access)),
    ("chmodG", offset_of!(Interface, chmod)),
    ("renameG", offset_of!(Interface, rename)),
    ("statG", offset_of!(Interface, stat)),
    ("lstatG", offset_of!(Interface, lstat)),
    ("opendirG", offset_of!(Interface, opendir)),
    ("closedirG", offset_of!(Interface, closedir)),
    ("readdirG", offset_of!(Interface, readdir)),
    ("mkdirpG", offset_of!(Interface, mkdirp)),
    ("rmdirG", offset_of!(Interface, rmdir)),
    ("openG", offset_of!(Interface, open)),
    ("readG", offset_of!(Interface, read)),
    ("writeG", offset_of!(Interface, write)),
    ("closeG", offset_of!(Interface, close)),
    ("lseekG", offset_of!(Interface, lseek)),
    ("preadG", offset_of!(Interface, pread)),
    ("pwriteG", offset_of!(Interface, pwrite)),
    ("unlinkG", offset_of!(Interface, unlink)),
    ("getxattrG", offset_of!(Interface, getxattr)),
    ("listxattrG", offset_of!(Interface, listxattr)),
    ("setxattrG", offset_of!(Interface, setxattr)),
    ("checksum_calcG", offset_of!(Interface, checksum_calc)),
    ("check_plugin_url_transfer", offset_of!(Interface, check_plugin_url_transfer)),
    ("bring_online", offset_of!(Interface, staging)),
    ("readdirppG", offset_of!(Interface, readdirpp)),
    ("bring_online_list", offset_of!(Interface, lists)),
    ("future", offset_of!(Interface, future)),
];

const OPERATIONS: [(&str, i32); 7] = [
    ("GFAL_PLUGIN_ACCESS", operation::ACCESS),
    ("GFAL_PLUGIN_STAT", operation::STAT),
    ("GFAL_PLUGIN_LSTAT", operation::LSTAT),
    ("GFAL_PLUGIN_OPEN", operation::OPEN),
    ("GFAL_PLUGIN_GETXATTR", operation::GETXATTR),
    ("GFAL_PLUGIN_LISTXATTR", operation::LISTXATTR),
    ("GFAL_PLUGIN_CHECKSUM", operation::CHECKSUM),
];

/// A C program that fails to compile where it differs: no need to run it.
fn program() -> String {
    let mut text = String::from("#include <stddef.h>\n#include <gfal_plugins_api.h>\n");
    let mut claim = |what: String| text.push_str(&format!("_Static_assert({what}, \"{}\");\n", what.replace('"', "'")));
    claim(format!("sizeof(struct _gfal_plugin_interface) == {}", size_of::<Interface>()));
    for (field, offset) in FIELDS {
        claim(format!("offsetof(struct _gfal_plugin_interface, {field}) == {offset}"));
    }
    for (name, number) in OPERATIONS {
        claim(format!("{name} == {number}"));
    }
    text
}

fn compile(text: &str) -> (bool, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("layout.c");
    fs::write(&source, text).expect("writes");
    let flags = Command::new("pkg-config").args(["--cflags", "gfal2"]).output().expect("pkg-config runs");
    assert!(flags.status.success(), "libgfal2-dev is not installed: scripts/setup test");
    let flags = String::from_utf8(flags.stdout).expect("text");
    let compiler = Command::new("cc").arg("-fsyntax-only").args(flags.split_whitespace()).arg(&source).output();
    let compiler = compiler.expect("cc runs");
    (compiler.status.success(), String::from_utf8_lossy(&compiler.stderr).into_owned())
}

#[test]
fn the_structure_is_that_of_the_installed_header() {
    let (same, said) = compile(&program());
    assert!(same, "{said}");
}

#[test]
fn another_layout_would_be_noticed() {
    let (same, said) = compile(&program().replace("readdirppG) == ", "readdirppG) == 1"));
    assert!(!same);
    assert!(said.contains("readdirppG"), "{said}");
}
