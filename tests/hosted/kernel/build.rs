// SPDX-License-Identifier: GPL-2.0

//! Takes from the kernel's tree, which the variable `KERNEL_TREE` names: the bindings of the uapi
//! header, and the parts of its `kernel` crate that can do without the kernel.

use std::{
    env,
    fs,
    path::{
        Path,
        PathBuf, //
    },
    process::Command, //
};

fn run(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

fn module(tree: &Path, name: &str) -> String {
    let source = tree.join("rust/kernel").join(name).with_extension("rs");
    println!("cargo:rerun-if-changed={}", source.display());
    format!("#[path = {source:?}]\npub mod {name};\n")
}

/// `ptr` without projections, which need much of the kernel.
fn alignment(tree: &Path, out: &Path) -> String {
    let source = tree.join("rust/kernel/ptr.rs");
    println!("cargo:rerun-if-changed={}", source.display());
    let source = fs::read_to_string(&source).unwrap_or_else(|error| panic!("{source:?}: {error}"));
    let lines = source.lines().filter(|line| !line.contains("project"));
    let ptr = out.join("ptr.rs");
    fs::write(&ptr, lines.collect::<Vec<_>>().join("\n")).expect("OUT_DIR is writable");
    format!("#[path = {ptr:?}]\npub mod ptr;\n")
}

fn main() {
    println!("cargo:rerun-if-env-changed=KERNEL_TREE");
    let tree = env::var_os("KERNEL_TREE").expect("KERNEL_TREE is not set: run this through pytest");
    let tree = PathBuf::from(tree);
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));

    let header = tree.join("include/uapi/linux/virtio_iommu.h");
    println!("cargo:rerun-if-changed={}", header.display());
    run(Command::new("bindgen")
        .arg(&header)
        .args(["--use-core", "--with-derive-default", "--no-layout-tests"])
        .args(["--allowlist-file", ".*virtio_iommu.h", "--output"])
        .arg(out.join("bindings.rs")));

    let mut modules = module(&tree, "impl_flags") + &alignment(&tree, &out);
    if env::var_os("CARGO_FEATURE_RBTREE").is_some() {
        modules += &module(&tree, "rbtree");
        let compiler = env::var("CC").unwrap_or("clang-19".into());
        run(Command::new(compiler)
            .args(["-O2", "-c", "-fPIC", "-I"])
            .arg(tree.join("tools/include"))
            .arg(tree.join("tools/lib/rbtree.c"))
            .arg("-o")
            .arg(out.join("rbtree.o")));
        let archiver = env::var("AR").unwrap_or("llvm-ar-19".into());
        run(Command::new(archiver)
            .arg("crs")
            .arg(out.join("librbtree.a"))
            .arg(out.join("rbtree.o")));
        println!("cargo:rustc-link-search=native={}", out.display());
        println!("cargo:rustc-link-lib=static=rbtree");
    }
    fs::write(out.join("modules.rs"), modules).expect("OUT_DIR is writable");
}
