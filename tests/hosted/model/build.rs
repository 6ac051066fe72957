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

/// The modules among `known` that `source` names after `super::`.
fn neighbours<'a>(source: &str, known: &'a [String]) -> Vec<&'a String> {
    let code: Vec<&str> = source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect();
    let uses: String = code
        .join("\n")
        .split("super::")
        .skip(1)
        .map(|after| after.split(';').next().unwrap_or(""))
        .collect();
    let words: Vec<&str> = uses
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .collect();
    known
        .iter()
        .filter(|name| words.contains(&name.as_str()))
        .collect()
}

/// The engine, and the modules beside it that it needs.
fn engine(directory: &Path) -> Sources {
    let known: Vec<String> = fs::read_dir(directory)
        .expect("viommu/ is there")
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let rust = path.extension()? == "rs";
            let name = path.file_stem()?.to_str()?.to_string();
            (rust && name != "mod").then_some(name)
        })
        .collect();

    let mut sources = Sources::new();
    let mut todo = vec!["request".to_string()];
    while let Some(name) = todo.pop() {
        if sources.contains_key(&name) {
            continue;
        }
        let path = directory.join(&name).with_extension("rs");
        println!("cargo:rerun-if-changed={}", path.display());
        let source = fs::read_to_string(&path).expect("the source can be read");
        // Not what only its tests use.
        let code = source.split("#[kunit_tests(").next().unwrap_or("");
        todo.extend(neighbours(code, &known).into_iter().cloned());
        sources.insert(name, source);
    }
    sources
}

/// Declares a variant of the engine, with the scenarios beside it.
fn declare(out: &mut String, name: &str, directory: &Path, sources: &Sources, beside: &Path) {
    writeln!(out, "#[allow(dead_code, unused)]\npub mod {name} {{").unwrap();
    for module in sources.keys() {
        let path = directory.join(module).with_extension("rs");
        writeln!(out, "    #[path = {path:?}]\n    mod {module};").unwrap();
    }
    for module in ["leaving", "rig", "scenarios"] {
        let path = beside.join(module).with_extension("rs");
        writeln!(out, "    #[path = {path:?}]\n    pub mod {module};").unwrap();
    }
    writeln!(out, "}}").unwrap();
}

fn main() {
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    let project = here.join("../../..").canonicalize().expect("it is there");
    let directory = project.join("viommu");
    let beside = here.join("src");
    let sources = engine(&directory);
    println!("cargo:rerun-if-changed=src/mutants.rs");
    println!("cargo:rerun-if-changed={}", directory.display());

    let mut variants = String::new();
    let mut table = String::new();
    declare(&mut variants, "genuine", &directory, &sources, &beside);
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
        declare(&mut variants, &name, &copies, &sources, &beside);
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
