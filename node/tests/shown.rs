//! Every command's help, held against files in `tests/expected`; `UPDATE=1` writes them anew, and the difference is read in review.
//! Plain files: one comparison needs no library.

use std::path::PathBuf;
use std::process::Command;

fn held_against(file: &str, shown: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/expected").join(file);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().expect("it has one")).expect("ours");
        std::fs::write(&path, shown).expect("ours");
        return;
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = expected.lines().zip(shown.lines()).position(|(expected, shown)| expected != shown);
    if expected != shown {
        let at = differs.unwrap_or_else(|| expected.lines().count().min(shown.lines().count()));
        let line = |text: &str| text.lines().nth(at).unwrap_or("(its end)").to_owned();
        panic!(
            "{file}, line {}:\n  expected {}\n  shown    {}\nif that is meant: UPDATE=1 cargo test -p node --test shown\nall of it:\n{shown}",
            at + 1,
            line(&expected),
            line(shown)
        );
    }
}

#[test]
fn every_commands_help_is_as_expected() {
    let help = |words: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_node")).args(words).arg("--help").env("COLUMNS", "100").output();
        let output = output.expect("the program starts");
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let all = help(&[]);
    let listed = all.split("\nCommands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("commands are listed");
    let names = listed.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let names: Vec<&str> = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help").collect();
    assert!(names.len() > 30, "{names:?}");
    held_against("help/node.txt", &all);
    for name in names {
        held_against(&format!("help/{name}.txt"), &help(&[name]));
    }
}
