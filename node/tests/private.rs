//! A swarm with a key: who has another one or none is told so, learns nothing, and nobody is made to run after it. The key itself is
//! seen nowhere.

mod nodes;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use node::node::{Node, Settings, start};
use nodes::{sees, send, settings, status, wait_until};
use protocol::Notice;
use tokio::sync::broadcast;

/// What a member says to whoever comes: a nonce of 24 bytes, and 16 that are the same for all under one key, as noise.
const SAID_MOST: usize = 24 + 16;

fn under(key: Option<u8>, directory: &Path, name: &str, peers: &[String]) -> Settings {
    Settings {
        swarm_key: key.map(|byte| [byte; 32]),
        machine: Some(name.to_owned()),
        peers: peers.iter().map(|address| address.parse().expect("a multiaddr")).collect(),
        ..settings(directory, name)
    }
}

async fn address(node: &Node) -> String {
    wait_until("it listens", async || !status(node).await.addresses.is_empty()).await;
    status(node).await.addresses.remove(0)
}

fn socket(address: &str) -> SocketAddr {
    let port = address.rsplit('/').next().and_then(|port| port.parse().ok()).expect("our own multiaddr");
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Says this to whoever listens there, and returns all that is answered until the other side ends it.
fn says(to: SocketAddr, words: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(to).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a time");
    // It may have hung up already.
    let _ = stream.write_all(words);
    let mut heard = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return heard,
            Ok(length) => heard.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return heard,
            Err(error) => panic!("it does not end: {error}; {} bytes heard", heard.len()),
        }
    }
}

fn warnings(heard: &mut broadcast::Receiver<Notice>) -> Vec<String> {
    let mut texts = Vec::new();
    while let Ok(notice) = heard.try_recv() {
        if let Notice::Warning(text) = notice {
            texts.push(text);
        }
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outsiders_of_a_private_swarm_learn_nothing_and_are_not_run_after() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut ann = start(under(Some(7), dir.path(), "ann-the-member", &[])).await.expect("it starts");
    let near = address(&ann).await;
    let bea = start(under(Some(7), dir.path(), "bea", std::slice::from_ref(&near))).await.expect("it starts");
    sees(&ann, 1).await;
    let letter = send(&ann, &["bea"], "the secret words").await;
    wait_until("it is delivered", async || nodes::delivered(&ann, letter)).await;
    let mut heard = ann.first_notices().expect("nobody took them");
    warnings(&mut heard);

    let to = socket(&near);
    let open = b"\x13/multistream/1.0.0\n\x07/noise\n".to_vec();
    let ours = b"\x13/multistream/1.0.0\n\x16/swarm/test/urgent/1\n".to_vec();
    let words = [vec![], vec![0; 4], vec![0xff; 4096], open, ours, vec![42; 40]];
    let answers = tokio::task::spawn_blocking(move || {
        let talks = (0..30).map(|n| {
            let words = words[n % words.len()].clone();
            std::thread::spawn(move || says(to, &words))
        });
        let talks: Vec<_> = talks.collect();
        talks.into_iter().map(|talk| talk.join().expect("it ends")).collect::<Vec<_>>()
    });
    for answer in answers.await.expect("they end") {
        assert!(answer.len() <= SAID_MOST, "{} bytes were said to an outsider", answer.len());
        for word in ["ann", "bea", "secret", "swarm", "test", "multistream"] {
            assert!(!answer.windows(word.len()).any(|window| window == word.as_bytes()), "{word}");
        }
    }
    // Nodes with another key, and without one, hear no more, and are told why.
    for (key, name, said) in
        [(Some(8), "eve", "not under the key of this swarm"), (None, "opal", "start this one with it (run --swarm-key FILE)")]
    {
        let mut outsider = start(under(key, dir.path(), name, std::slice::from_ref(&near))).await.expect("it starts");
        let mut told = outsider.first_notices().expect("nobody took them");
        let mut texts = Vec::new();
        wait_until("it is told", async || {
            texts.extend(warnings(&mut told));
            texts.iter().any(|text| text.contains(said))
        })
        .await;
        let status = status(&outsider).await;
        assert!(status.peers.is_empty(), "{:?}", status.peers);
        outsider.stop().await.expect("it stops");
    }
    let texts = warnings(&mut heard);
    let refused = texts.iter().filter(|text| text.contains("tried to join without the key")).count();
    assert_eq!((refused, texts.len()), (1, 1), "said once for each host: {texts:?}");
    assert_eq!(status(&ann).await.peers.len(), 1, "nobody else is known");
    let letter = send(&bea, &["ann-the-member"], "we go on").await;
    wait_until("it is delivered", async || nodes::delivered(&bea, letter)).await;

    // One whom a member was told to reach, and who lets nobody in: it is tried less and less.
    let outside = TcpListener::bind("127.0.0.1:0").expect("a port");
    let there = format!("/ip4/127.0.0.1/tcp/{}", outside.local_addr().expect("an address").port());
    let came = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&came);
    std::thread::spawn(move || {
        for stream in outside.incoming() {
            count.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    let carl = start(under(Some(7), dir.path(), "carl", &[there, near])).await.expect("it starts");
    let begin = Instant::now();
    sees(&carl, 2).await;
    wait_until("a while passes", async || begin.elapsed() > Duration::from_secs(8)).await;
    let tries = came.load(Ordering::SeqCst);
    println!("{tries} tries in 8 s");
    assert!((1..=8).contains(&tries), "{tries} tries in 8 s");
    for node in [ann, bea, carl] {
        node.stop().await.expect("it stops");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_private_node_that_comes_to_an_open_one_is_told_and_so_is_the_open_one_as_far_as_it_can_know() {
    let dir = tempfile::tempdir().expect("a directory");
    let open = start(under(None, dir.path(), "opal", &[])).await.expect("it starts");
    let near = address(&open).await;
    let mut private = start(under(Some(7), dir.path(), "ann", &[near])).await.expect("it starts");
    let mut told = private.first_notices().expect("nobody took them");
    let mut texts = Vec::new();
    wait_until("it is told", async || {
        texts.extend(warnings(&mut told));
        texts.iter().any(|text| text.contains("not under the key of this swarm"))
    })
    .await;
    assert!(status(&open).await.peers.is_empty() && status(&private).await.peers.is_empty());
    for node in [open, private] {
        node.stop().await.expect("it stops");
    }
}

#[test]
fn the_key_of_a_swarm_is_never_printed_or_logged_or_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let digits = "c0ffee17deadbeef0123456789abcdef5ca1ab1e00ddba11feedface8badf00d";
    let file = dir.path().join("the.key");
    std::fs::write(&file, format!("/key/swarm/psk/1.0.0/\n/base16/\n{digits}\n")).expect("written");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("our own");
    let data = dir.path().join("ann");
    let command = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_node"));
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SWARM_")) {
            command.env_remove(variable);
        }
        command.args(words).arg("--data-dir").arg(&data).stdin(Stdio::null());
        command
    };
    // Files, as nobody reads a pipe meanwhile.
    let (out, err) = (dir.path().join("out"), dir.path().join("err"));
    let key = file.to_str().expect("text");
    let mut run = command(&["run", "--name", "ann", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--log", "trace", "--swarm-key", key]);
    run.stdout(std::fs::File::create(&out).expect("a file")).stderr(std::fs::File::create(&err).expect("a file"));
    let mut process = run.spawn().expect("the program starts");
    let mut said = Vec::new();
    let begin = Instant::now();
    while !command(&["status"]).output().expect("it starts").status.success() {
        assert!(begin.elapsed() < nodes::BOUND, "it does not answer");
        std::thread::sleep(Duration::from_millis(10));
    }
    let backup = dir.path().join("backup");
    for words in [
        &["status", "--json"][..],
        &["peers", "--all", "--json"],
        &["log", "--local", "--json"],
        &["backup", backup.to_str().expect("text")],
    ] {
        let output = command(words).output().expect("it starts");
        said.extend(output.stdout);
        said.extend(output.stderr);
    }
    // Somebody without it comes, and is spoken of.
    let status = command(&["status", "--json"]).output().expect("it starts").stdout;
    let status: serde_json::Value = serde_json::from_slice(&status).expect("JSON");
    assert_eq!(status["open"], false);
    if let Some(address) = status["addresses"][0].as_str() {
        says(socket(address), &[1; 64]);
    }
    assert!(command(&["stop"]).output().expect("it starts").status.success());
    assert!(process.wait().expect("our child").success());
    for file in [&out, &err, &backup] {
        said.extend(std::fs::read(file).expect("it was written"));
    }
    for entry in std::fs::read_dir(&data).expect("a directory").map(|entry| entry.expect("a file").path()).filter(|path| path.is_file()) {
        said.extend(std::fs::read(entry).expect("our own"));
    }
    let raw: Vec<u8> = (0..32).map(|n| u8::from_str_radix(&digits[2 * n..2 * n + 2], 16).expect("hex")).collect();
    let listed = format!("{}, {}, {}, {}", raw[0], raw[1], raw[2], raw[3]);
    assert!(said.len() > 10_000, "{} bytes were looked at", said.len());
    for secret in [digits.as_bytes(), digits.to_uppercase().as_bytes(), &raw[..8], &digits.as_bytes()[..16], listed.as_bytes()] {
        assert!(!said.windows(secret.len()).any(|window| window == secret), "the key is seen");
    }
}
