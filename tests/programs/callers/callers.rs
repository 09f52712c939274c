// Makes children in closures that a compiler inlines into generic functions of Rust's library.
use std::process::Command;
use std::thread;

extern "C" {
    fn fork() -> i32;
    fn _exit(status: i32) -> !;
    fn waitpid(pid: i32, status: *mut i32, options: i32) -> i32;
}

fn reap(child: i32) {
    unsafe {
        if child == 0 {
            _exit(0)
        }
        assert!(child > 0 && waitpid(child, std::ptr::null_mut(), 0) == child);
    }
}

#[inline(always)]
fn helper(status: usize) {
    reap(unsafe { fork() });
    assert!(status < 100);
}

fn run(words: &[String]) {
    assert!(Command::new("true").args(words).status().unwrap().success());
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let count = words.len();
    thread::spawn(|| reap(unsafe { fork() })).join().unwrap();
    thread::spawn(move || helper(count)).join().unwrap();
    thread::Builder::new().name("crew".into()).spawn(|| run(&[])).unwrap().join().unwrap();
    (0..2).for_each(|_| reap(unsafe { fork() }));
    let mapped: Vec<usize> = (0..2).map(|n| { helper(n); n }).collect();
    thread::scope(|scope| { scope.spawn(|| run(&words)); });
    let boxed: Box<dyn Fn()> = Box::new(|| reap(unsafe { fork() }));
    boxed();
    run(&words);
    println!("ok {}", mapped.len());
}
