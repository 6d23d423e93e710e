//! Two programs are called `node`: this tells the user of the other one.
//! Knows nothing of ours. Only words that can mean nothing here are taken for the other's.

use std::ffi::OsString;

/// Options of Node.js that ask it to run something, and that we will never have.
const THEIRS: [&str; 14] = [
    "-e",
    "--eval",
    "-p",
    "--print",
    "-pe",
    "-r",
    "--require",
    "--import",
    "--inspect",
    "--inspect-brk",
    "-c",
    "--check",
    "-i",
    "--interactive",
];

/// Whether these arguments, without the program's name, were meant for Node.js.
#[must_use]
pub(super) fn meant(arguments: &[OsString]) -> bool {
    let Some(first) = arguments.first().and_then(|first| first.to_str()) else { return false };
    let option = first.split('=').next().unwrap_or(first);
    THEIRS.contains(&option)
        || !first.starts_with('-') && [".js", ".mjs", ".cjs", ".ts", ".mts", ".cts"].iter().any(|end| first.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_and_one_liners_are_for_the_other_node() {
        let check = |words: &[&str], expected| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(meant(&words), expected, "{words:?}");
        };
        for theirs in
            [&["x.js"][..], &["./a/b.mjs", "--port", "1"], &["-e", "1"], &["--eval=1"], &["-p", "1"], &["--inspect", "x"], &["x.ts"]]
        {
            check(theirs, true);
        }
        for ours in [&[][..], &["run"], &["send", "x.js"], &["--name", "x.js"], &["peers"], &["--help"], &["--version"]] {
            check(ours, false);
        }
    }
}
