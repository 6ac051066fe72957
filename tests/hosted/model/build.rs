// SPDX-License-Identifier: GPL-2.0

//! Finds the sources of the request engine, and makes the wrong copies of them that the checker
//! has to find wrong.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write,
    fs,
    path::{
        Path,
        PathBuf, //
    }, //
};

include!("src/mutants.rs");

type Sources = BTreeMap<String, String>;

/// The files of the engine, and what it needs of the rooms below, by module.
fn engine(directory: &Path, below: &Path) -> Sources {
    let files = fs::read_dir(directory).expect("the engine is there");
    files
        .map(|file| file.expect("the folder can be read").path())
        .chain([below.to_path_buf()])
        .map(|path| {
            println!("cargo:rerun-if-changed={}", path.display());
            let name = path.file_stem().and_then(|name| name.to_str());
            let source = fs::read_to_string(&path).expect("the source can be read");
            (name.expect("a file with a name").to_string(), source)
        })
        .collect()
}

/// Declares a variant of the engine, with the scenarios beside it.
fn declare(out: &mut String, name: &str, directory: &Path, below: &Path, beside: &Path) {
    writeln!(out, "#[allow(dead_code, unused)]\npub mod {name} {{").unwrap();
    let engine = directory.join("mod.rs");
    writeln!(out, "    #[path = {engine:?}]\n    mod engine;").unwrap();
    writeln!(out, "    #[path = {below:?}]\n    mod spans;").unwrap();
    for module in ["leaving", "refused", "rig", "scenarios", "slow"] {
        let path = beside.join(module).with_extension("rs");
        writeln!(out, "    #[path = {path:?}]\n    pub mod {module};").unwrap();
    }
    writeln!(out, "}}").unwrap();
}

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let project = here.join("../../..").canonicalize().expect("it is there");
    let directory = project.join("viommu/engine");
    let beside = here.join("src");
    let spans = project.join("viommu/spans.rs");
    let sources = engine(&directory, &spans);
    println!("cargo:rerun-if-changed=src/mutants.rs");
    println!("cargo:rerun-if-changed={}", directory.display());

    let mut variants = String::new();
    let mut table = String::new();
    declare(&mut variants, "genuine", &directory, &spans, &beside);
    for mutant in MUTANTS {
        let source = sources.get(mutant.module).map_or("", String::as_str);
        if source.matches(mutant.find).count() != 1 {
            writeln!(table, "(\"{}\", None),", mutant.name).unwrap();
            continue;
        }
        let copies = out.join(mutant.name);
        fs::create_dir_all(&copies).expect("OUT_DIR is writable");
        for (module, source) in &sources {
            let source = if module == mutant.module {
                source.replace(mutant.find, mutant.replace)
            } else {
                source.clone()
            };
            fs::write(copies.join(module).with_extension("rs"), source)
                .expect("OUT_DIR is writable");
        }
        let name = mutant.name.replace('-', "_");
        declare(
            &mut variants,
            &name,
            &copies,
            &copies.join("spans.rs"),
            &beside,
        );
        writeln!(
            table,
            "(\"{}\", Some({name}::scenarios::ALL)),",
            mutant.name
        )
        .unwrap();
    }
    let uapi = project.join("uapi/mod.rs");
    writeln!(variants, "pub const MUTANTS: &[Variant] = &[{table}];").unwrap();
    fs::write(out.join("variants.rs"), variants).expect("OUT_DIR is writable");
    fs::write(
        out.join("uapi.rs"),
        format!("#[allow(dead_code, unused_imports)]\n#[path = {uapi:?}]\nmod uapi;\n"),
    )
    .expect("OUT_DIR is writable");
}
