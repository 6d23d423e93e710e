//! What this machine makes of the promises: figures of real nodes beside the floors of the machine, from one run.
//! Knows nothing of what is good: targets are printed beside what was measured. Nodes are processes of their own.
//!
//! Reading order: [`rows`] (what there is), [`letters`], [`orders`], [`idle`], [`swarms`], [`floors`]; then [`nodes`] (what is
//! measured), [`child`] (what the floors need), [`machine`], [`table`].

mod child;
mod floors;
mod idle;
mod letters;
mod machine;
mod nodes;
mod orders;
mod recorded;
mod rows;
mod store;
mod swarms;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use machine::Machine;
use rows::{Bench, Options};

const HELP: &str = "\
scripts/bench [ROW…] [--json] [--quick] [--dir DIR] [--letters N] [--idle SECONDS]
  ROW         only these rows, and the floors that belong to them; --list names them
  --json      one JSON document instead of a table
  --quick     each row once instead of three times
  --dir DIR   where the nodes keep their disks (default: beside the build)
  --letters N letters, or orders, of the rows that write many (default 100000)
  --idle S    seconds that an idle node is watched (default 20)";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let mut options = Options { runs: 3, letters: 100_000, idle: 20, dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")) };
    let (mut json, mut wanted) = (false, Vec::new());
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|text| text.parse::<u64>().ok());
        match argument.as_str() {
            // What the nodes and echoes of this benchmark are started as: never typed by anyone.
            child::FLAG => return child::main(arguments),
            "--json" => json = true,
            "--quick" => options.runs = 1,
            "--letters" => options.letters = number().unwrap_or(options.letters),
            "--idle" => options.idle = number().unwrap_or(options.idle),
            "--dir" => options.dir = arguments.next().map_or(options.dir, PathBuf::from),
            "--list" => {
                rows::ROWS.iter().for_each(|row| println!("{:<12} {}", row.name, row.what));
                return ExitCode::SUCCESS;
            }
            // Cargo passes it to every benchmark.
            "--bench" => {}
            "--help" | "-h" => {
                println!("{HELP}");
                return ExitCode::SUCCESS;
            }
            name if rows::ROWS.iter().any(|row| row.name == name) => wanted.push(name.to_owned()),
            other => {
                eprintln!("{other}: no such row or option\n{HELP}");
                return ExitCode::from(2);
            }
        }
    }
    let machine = Machine::look(&options.dir);
    if !json {
        println!("{machine}");
    }
    let mut bench = Bench::new(options);
    for row in rows::ROWS.iter().filter(|row| wanted.is_empty() || wanted.iter().any(|name| name == row.name)) {
        for result in bench.run(row) {
            if !json {
                println!("{result}");
            }
        }
    }
    if json {
        println!("{}", table::document(&machine, &bench.results));
    } else {
        println!("load average at the end: {}", machine::load());
    }
    ExitCode::SUCCESS
}
