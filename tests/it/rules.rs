//! The rules of the house that no compiler holds: who may import whom, and how long a file may be.
//!
//! An exception is a line here with its reason; one that is not needed any more fails as well.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The layering table of `src/lib.rs`: a module and the modules of ours that it may import.
const LAYERS: [(&str, &[&str]); 16] = [
    ("oci", &[]),
    ("clock", &[]),
    ("ids", &["oci"]),
    ("error", &["oci"]),
    ("model", &["oci", "error", "ids"]),
    ("config", &["model", "auth"]),
    ("telemetry", &["config"]),
    ("db", &["oci", "model", "error", "ids"]),
    ("audit", &["model"]),
    ("auth", &["oci", "error", "clock", "ids", "model"]),
    (
        "registry",
        &[
            "oci", "error", "clock", "ids", "model", "db", "auth", "audit",
        ],
    ),
    (
        "api",
        &[
            "oci",
            "error",
            "ids",
            "model",
            "auth",
            "registry",
            "telemetry",
        ],
    ),
    ("janitor", &["error", "model", "registry", "telemetry"]),
    (
        "app",
        &[
            "api",
            "audit",
            "auth",
            "clock",
            "config",
            "db",
            "error",
            "ids",
            "janitor",
            "model",
            "registry",
            "telemetry",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "audit",
            "auth",
            "config",
            "error",
            "model",
            "oci",
            "registry",
            "telemetry",
        ],
    ),
    ("main", &["cli"]),
];

/// Crates that only some modules may name.
const HOMES: [(&str, &[&str]); 4] = [
    ("lapin", &["audit"]),
    ("diesel", &["db"]),
    ("actix_web", &["api", "main"]),
    (
        "storage_drivers",
        // `error` turns storage errors into ours; `model` and `config` name the tenant and the settings;
        // `auth` shares the OpenStack session; `db` keeps object keys; `telemetry` observes; `api` passes byte streams on.
        &[
            "registry",
            "app",
            "auth",
            "error",
            "model",
            "config",
            "db",
            "telemetry",
            "api",
        ],
    ),
];

/// Of `storage_drivers` the API may name the type of a stream and nothing else.
const API_STORAGE_NAMES: [&str; 1] = ["ByteStream"];

const MAX_FILE_LINES: usize = 400;

/// Files that are longer without their tests, and why. There are none.
const LONG_FILES: [(&str, &str); 0] = [];

struct Source {
    path: String,
    module: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["src", "storage-drivers/src"] {
        collect(&root.join(folder), &mut files);
    }
    files.sort();
    files
        .into_iter()
        .map(|file| {
            let path = file
                .strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            let module = path
                .trim_start_matches("src/")
                .split(['/', '.'])
                .next()
                .unwrap()
                .to_owned();
            let text = fs::read_to_string(&file).unwrap();
            Source { path, module, text }
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The code without comments and without the unit tests at its end.
fn code(text: &str) -> String {
    let text = text.split("\n#[cfg(test)]\nmod ").next().unwrap();
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The first names after `crate::`, in paths and in `use crate::{...}`.
fn imports(code: &str) -> BTreeSet<String> {
    let word = |text: &str| -> String {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect()
    };
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => drop(found.insert(word(rest))),
            Some(group) => {
                let mut depth = 0;
                let mut expects_name = true;
                for (position, c) in group.char_indices() {
                    match c {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => expects_name = true,
                        c if expects_name && (c.is_alphanumeric() || c == '_') => {
                            found.insert(word(&group[position..]));
                            expects_name = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    found
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let names: BTreeSet<&str> = LAYERS.iter().map(|(name, _)| *name).collect();
    let mut broken = Vec::new();
    let mut used = BTreeSet::new();
    for source in sources()
        .iter()
        .filter(|source| source.path.starts_with("src/"))
    {
        if source.module == "lib" {
            continue;
        }
        let layer = LAYERS.iter().find(|(name, _)| *name == source.module);
        let (name, allowed) =
            layer.unwrap_or_else(|| panic!("{} is in no layer of the table", source.path));
        let code = code(&source.text).replace("kontor::", "crate::");
        for import in imports(&code) {
            if import == *name || !names.contains(import.as_str()) {
                continue;
            }
            used.insert((*name, import.clone()));
            if !allowed.contains(&import.as_str()) {
                broken.push(format!("{} imports {import}", source.path));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    let idle: Vec<_> = LAYERS
        .iter()
        .flat_map(|(name, allowed)| {
            allowed
                .iter()
                .map(move |other| (*name, (*other).to_owned()))
        })
        .filter(|pair| !used.contains(pair))
        .filter(|(name, other)| {
            // Doors that the design leaves open.
            !matches!(
                (*name, other.as_str()),
                ("ids" | "error", "oci")
                    | ("model", "error" | "ids")
                    | ("auth", "ids" | "oci" | "error")
            )
        })
        .collect();
    assert!(idle.is_empty(), "allowed but not used: {idle:?}");
}

#[test]
fn crates_are_named_only_at_home() {
    let mut broken = Vec::new();
    for source in sources()
        .iter()
        .filter(|source| source.path.starts_with("src/"))
    {
        let code = code(&source.text);
        for (name, homes) in HOMES {
            let is_named =
                code.contains(&format!("{name}::")) || code.contains(&format!("use {name}"));
            if is_named && !homes.contains(&source.module.as_str()) {
                broken.push(format!("{} names {name}", source.path));
            }
        }
        if source.module == "api" {
            for line in code
                .lines()
                .filter(|line| line.contains("storage_drivers::"))
            {
                if !API_STORAGE_NAMES.iter().any(|name| line.contains(name)) {
                    broken.push(format!("{}: {}", source.path, line.trim()));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn files_fit_a_screenful_or_say_why_not() {
    let mut exceptions: BTreeSet<&str> = LONG_FILES.iter().map(|(path, _)| *path).collect();
    let mut broken = Vec::new();
    for source in sources()
        .into_iter()
        .filter(|source| !source.path.ends_with("/tests.rs"))
    {
        let text = source.text.split("\n#[cfg(test)]\nmod ").next().unwrap();
        let lines = text.lines().count();
        if lines > MAX_FILE_LINES && !exceptions.remove(source.path.as_str()) {
            broken.push(format!("{} has {lines} lines", source.path));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
    assert!(exceptions.is_empty(), "not needed any more: {exceptions:?}");
}

#[test]
fn every_file_says_what_it_is_for_and_expects_rather_than_allows() {
    let mut broken = Vec::new();
    for source in sources() {
        if !source.text.starts_with("//!") {
            broken.push(format!("{} does not begin with //!", source.path));
        }
        if source.text.contains("#[allow(") || source.text.contains("#![allow(") {
            broken.push(format!(
                "{} allows a lint; expect it, with the reason",
                source.path
            ));
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn both_databases_have_the_same_migrations() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let names = |database: &str| -> BTreeSet<String> {
        fs::read_dir(root.join(database))
            .unwrap()
            .map(|entry| {
                let path = entry.unwrap().path();
                for file in ["up.sql", "down.sql"] {
                    assert!(path.join(file).is_file(), "{} lacks {file}", path.display());
                }
                path.file_name().unwrap().to_str().unwrap().to_owned()
            })
            .collect()
    };
    assert_eq!(names("postgres"), names("sqlite"));
    // The same tables and columns as well, whatever their types are called.
    let shape = |database: &str, name: &str| -> Vec<String> {
        let text = fs::read_to_string(root.join(database).join(name).join("up.sql")).unwrap();
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.starts_with("--"));
        let words = lines.filter_map(|line| line.split_whitespace().next().map(ToOwned::to_owned));
        words.collect()
    };
    for name in names("postgres") {
        assert_eq!(shape("postgres", &name), shape("sqlite", &name), "{name}");
    }
}
