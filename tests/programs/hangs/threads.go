// Hangs as Go programs have them. The runtime sees for itself when all goroutines are asleep, unless it handles signals.
package main

import (
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"sync"
)

func ask() { fmt.Printf("ask %d 0\n", os.Getpid()) }

func channel() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals)
	never := make(chan int)
	ask()
	<-never
}

func mutex() {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals)
	var lock sync.Mutex
	lock.Lock()
	ask()
	lock.Lock()
}

// Wait copies the output until everybody has closed it, whoever that is (golang/go#23019).
func outputKept() {
	command := exec.Command("sh", "-c", "sleep 10000 & echo kill $! >&2")
	command.Stderr = os.Stderr
	ask()
	command.Output()
}

func main() {
	all := []struct {
		name string
		run  func()
	}{{"channel", channel}, {"mutex", mutex}, {"output_kept", outputKept}}
	for _, each := range all {
		if len(os.Args) < 2 {
			fmt.Println(each.name)
		} else if os.Args[1] == each.name {
			each.run()
		}
	}
}
