// Hangs as Rust programs have them.
use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::{mpsc, Arc, Condvar, Mutex, RwLock};
use std::thread;

extern "C" {
    fn gettid() -> i32;
}

fn blocks(call: &str) {
    println!("wait {} {}", unsafe { gettid() }, call);
}

fn ask(tasks: i32) {
    println!("ask {} {}", std::process::id(), tasks);
}

fn abba() {
    let (first, second) = (Arc::new(Mutex::new(0)), Arc::new(Mutex::new(0)));
    let (ready, is_ready) = mpsc::channel();
    let held = first.lock().unwrap();
    let (one, two) = (first.clone(), second.clone());
    thread::spawn(move || {
        let _held = two.lock().unwrap();
        ready.send(()).unwrap();
        blocks("futex");
        let _wanted = one.lock().unwrap();
    });
    is_ready.recv().unwrap();
    blocks("futex");
    ask(2);
    let _wanted = second.lock().unwrap();
    drop(held);
}

fn relock() {
    let lock = Mutex::new(0);
    let _held = lock.lock().unwrap();
    blocks("futex");
    ask(1);
    let _again = lock.lock().unwrap();
}

fn channel() {
    let (_sender, receiver) = mpsc::channel::<i32>();
    blocks("futex");
    ask(1);
    let _ = receiver.recv();
}

fn condvar() {
    let (lock, changed) = (Mutex::new(false), Condvar::new());
    let mut held = lock.lock().unwrap();
    blocks("futex");
    ask(1);
    while !*held {
        held = changed.wait(held).unwrap();
    }
}

fn upgrade() {
    let table = RwLock::new(0);
    let _reads = table.read().unwrap();
    blocks("futex");
    ask(1);
    let _writes = table.write().unwrap();
}

// A build script starts a server, which keeps the pipe of its output (cargo and sccache).
fn output_kept() {
    let mut child = Command::new("sh")
        .args(["-c", "sleep 10000 & echo kill $! >&2"])
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut text = String::new();
    blocks("read");
    ask(1);
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
}

fn main() {
    let all: [(&str, fn()); 6] = [
        ("abba", abba),
        ("relock", relock),
        ("channel", channel),
        ("condvar", condvar),
        ("upgrade", upgrade),
        ("output_kept", output_kept),
    ];
    match std::env::args().nth(1) {
        None => all.iter().for_each(|(name, _)| println!("{}", name)),
        Some(wanted) => all.iter().find(|(name, _)| *name == wanted).unwrap().1(),
    }
}
