// rows.go - the rows of the table in Go: go build -o rows rows.go && GOMAXPROCS=1 ./rows NAME
//
// The same work as suite.c, sched.c and net.c, line by line, for figures of the same machine in the
// same minutes. Prints "NAME FIGURE" lines as they do; echo_server and http_server say their port
// and serve until they are killed.
package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const rounds = 5

func median(name string, round func() float64) {
	v := make([]float64, rounds)
	round()
	for i := range v {
		v[i] = round()
	}
	sort.Float64s(v)
	fmt.Printf("%s %.2f\n", name, v[rounds/2])
}

func per(start time.Time, n float64) float64 {
	return float64(time.Since(start).Nanoseconds()) / n
}

func ms(start time.Time) float64 {
	return float64(time.Since(start).Nanoseconds()) / 1e6
}

func spawn() float64 {
	const n, batch = 1000000, 100
	start := time.Now()
	done := make(chan bool)
	for i := 0; i < n/batch; i++ {
		for k := 0; k < batch; k++ {
			if i == n/batch-1 && k == batch-1 {
				go func() { done <- true }()
			} else {
				go func() {}()
			}
		}
		runtime.Gosched()
	}
	<-done
	return per(start, n)
}

func yield() float64 {
	const n = 1000000
	var wg sync.WaitGroup
	start := time.Now()
	for g := 0; g < 2; g++ {
		wg.Add(1)
		go func() {
			for i := 0; i < n; i++ {
				runtime.Gosched()
			}
			wg.Done()
		}()
	}
	wg.Wait()
	return per(start, 2*n)
}

func pingpong() float64 {
	const n = 1000000
	ping, pong := make(chan uint64), make(chan uint64)
	go func() {
		for v := range ping {
			pong <- v
		}
	}()
	start := time.Now()
	for i := uint64(0); i < n; i++ {
		ping <- i
		<-pong
	}
	close(ping)
	return per(start, n)
}

func crowd(n int) float64 {
	const values = 2000000
	var wg sync.WaitGroup
	c := make(chan uint64, 128)
	start := time.Now()
	for g := 0; g < n; g++ {
		wg.Add(2)
		go func() {
			for i := 0; i < values/n; i++ {
				c <- uint64(i)
			}
			wg.Done()
		}()
		go func() {
			for i := 0; i < values/n; i++ {
				<-c
			}
			wg.Done()
		}()
	}
	wg.Wait()
	return per(start, values)
}

func select2() float64 {
	const n = 500000
	a, b := make(chan uint64), make(chan uint64)
	for _, c := range []chan uint64{a, b} {
		go func(c chan uint64) {
			for i := uint64(0); i < n/2; i++ {
				c <- i
			}
		}(c)
	}
	start := time.Now()
	for i := 0; i < n; i++ {
		select {
		case <-a:
		case <-b:
		}
	}
	return per(start, n)
}

func mutex8() float64 {
	const n = 2000000
	var wg sync.WaitGroup
	var mu sync.Mutex
	guarded := 0
	start := time.Now()
	for g := 0; g < 8; g++ {
		wg.Add(1)
		go func() {
			for i := 0; i < n/8; i++ {
				mu.Lock()
				guarded++
				mu.Unlock()
			}
			wg.Done()
		}()
	}
	wg.Wait()
	return per(start, n)
}

func resident() float64 {
	b, _ := os.ReadFile("/proc/self/statm")
	pages, _ := strconv.Atoi(strings.Fields(string(b))[1])
	return float64(pages) * 4096
}

func parked() {
	const n = 1000000
	var arrived int32
	var wg sync.WaitGroup
	gate, all := make(chan bool), make(chan bool)
	before := resident()
	start := time.Now()
	wg.Add(n)
	for i := 0; i < n; i++ {
		go func() {
			if atomic.AddInt32(&arrived, 1) == n {
				all <- true
			}
			<-gate
			wg.Done()
		}()
	}
	<-all
	runtime.Gosched()
	create := per(start, n)
	after := resident()
	start = time.Now()
	close(gate)
	wg.Wait()
	fmt.Printf("parked_wake %.2f\nparked_create %.2f\nparked_bytes %.1f\n", per(start, n), create, (after-before)/n)
}

func ring() float64 {
	const members, hops = 503, 1000000
	link := make([]chan int64, members)
	done := make(chan bool)
	for i := range link {
		link[i] = make(chan int64)
	}
	for i := range link {
		go func(i int) {
			for left := range link[i] {
				if left--; left == 0 {
					done <- true
				} else {
					link[(i+1)%members] <- left
				}
			}
		}(i)
	}
	start := time.Now()
	link[0] <- hops
	<-done
	ns := per(start, hops)
	for i := range link {
		close(link[i])
	}
	return ns
}

func node(up chan int64, num, size int64) {
	if size == 1 {
		up <- num
		return
	}
	mine := make(chan int64, 10)
	for i := int64(0); i < 10; i++ {
		go node(mine, num+i*(size/10), size/10)
	}
	sum := int64(0)
	for i := 0; i < 10; i++ {
		sum += <-mine
	}
	up <- sum
}

func skynet() float64 {
	up := make(chan int64)
	start := time.Now()
	go node(up, 0, 1000000)
	<-up
	return ms(start)
}

func serialFib(n int) int64 {
	if n < 2 {
		return int64(n)
	}
	return serialFib(n-1) + serialFib(n-2)
}

func forkFib(n int) int64 {
	if n <= 12 {
		return serialFib(n)
	}
	result := make(chan int64, 1)
	go func() { result <- forkFib(n - 1) }()
	sum := forkFib(n - 2)
	return sum + <-result
}

func fib() float64 {
	start := time.Now()
	forkFib(35)
	return ms(start)
}

//go:noinline
func dive(kib int) int {
	var frame [1024 - 64]byte
	frame[0], frame[len(frame)-1] = byte(kib), byte(kib)
	if kib&(kib-1) == 0 {
		runtime.Gosched()
	}
	if kib == 64 {
		return int(frame[0])
	}
	return dive(kib+1) + int(frame[len(frame)-1])
}

func growstack() float64 {
	const n = 4000
	var wg sync.WaitGroup
	start := time.Now()
	for i := 0; i < n; i++ {
		wg.Add(1)
		go func() { dive(2); wg.Done() }()
		if i%16 == 15 {
			wg.Wait()
		}
	}
	wg.Wait()
	return per(start, n)
}

func sysCall() float64 {
	const n = 1000000
	start := time.Now()
	for i := 0; i < n; i++ {
		syscall.Fsync(-1)
	}
	return per(start, n)
}

func pipeRing() float64 {
	const members, hops = 64, 100000
	const laps = hops / members
	var wg sync.WaitGroup
	var link [members][2]int
	for i := range link {
		if err := syscall.Pipe(link[i][:]); err != nil {
			panic(err)
		}
	}
	for i := range link {
		wg.Add(1)
		go func(i int) {
			var token [1]byte
			for n := 0; n < laps; n++ {
				syscall.Read(link[i][0], token[:])
				syscall.Write(link[(i+1)%members][1], token[:])
			}
			wg.Done()
		}(i)
	}
	time.Sleep(10 * time.Millisecond)
	start := time.Now()
	syscall.Write(link[0][1], []byte("x"))
	wg.Wait()
	ns := per(start, laps*members)
	for i := range link {
		syscall.Close(link[i][0])
		syscall.Close(link[i][1])
	}
	return ns
}

func cpu() float64 {
	var r syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &r)
	return float64(r.Utime.Nano()+r.Stime.Nano()) / 1e6
}

func sleepers() {
	const n, sleeps = 100000, 10
	var wg sync.WaitGroup
	before := cpu()
	start := time.Now()
	for i := 0; i < n; i++ {
		wg.Add(1)
		go func() {
			for k := 0; k < sleeps; k++ {
				time.Sleep(10 * time.Millisecond)
			}
			wg.Done()
		}()
	}
	wg.Wait()
	fmt.Printf("sleepers %.1f\nsleepers_cpu %.1f\n", ms(start), cpu()-before)
}

var spin int32 = 1

func preempt() {
	const n = 40
	sum := 0.0
	go func() {
		for atomic.LoadInt32(&spin) != 0 {
		}
	}()
	for i := 0; i < n; i++ {
		due := time.Now().Add(time.Millisecond)
		time.Sleep(time.Millisecond)
		sum += ms(due)
	}
	atomic.StoreInt32(&spin, 0)
	fmt.Printf("preempt %.2f\n", sum/n)
}

func echoServer() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("port %d\n", l.Addr().(*net.TCPAddr).Port)
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			b := make([]byte, 64)
			for {
				n, err := c.Read(b)
				if err != nil {
					break
				}
				if _, err = c.Write(b[:n]); err != nil {
					break
				}
			}
			c.Close()
		}()
	}
}

func httpServer() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Printf("http://%s/\n", l.Addr())
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Write([]byte("Hello, world\n"))
	})
	http.Serve(l, nil)
}

func main() {
	name := ""
	if len(os.Args) == 2 {
		name = os.Args[1]
	}
	rows := map[string]func() float64{"spawn": spawn, "yield": yield, "pingpong": pingpong,
		"chan128": func() float64 { return crowd(1) }, "chan8": func() float64 { return crowd(8) },
		"select2": select2, "mutex8": mutex8, "ring": ring, "skynet": skynet, "fib": fib,
		"growstack": growstack, "syscall": sysCall, "pipe_ring": pipeRing}
	once := map[string]func(){"parked": parked, "sleepers": sleepers, "preempt": preempt,
		"echo_server": echoServer, "http_server": httpServer, "version": func() { fmt.Println(runtime.Version()) }}
	if round, ok := rows[name]; ok {
		median(name, round)
	} else if run, ok := once[name]; ok {
		run()
	} else {
		fmt.Fprintf(os.Stderr, "rows: no row %q\n", name)
		os.Exit(2)
	}
}
