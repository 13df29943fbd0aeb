//! The plugin stays in memory once it was loaded: the libraries below it keep data for each thread, whose end may come
//! after GFAL2 has let go of its plugins.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
