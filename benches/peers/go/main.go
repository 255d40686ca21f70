// The servers of the benchmark on Go's net package: a goroutine for each connection.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	message = 64
	piece   = 64 << 10
	threads = 4
	buffer  = 16 << 10
)

var (
	connections = 64
	count       = 1000
	bytes       = 1024
)

func unsupported(why string) {
	fmt.Println("unsupported: " + why)
	os.Exit(3)
}

func echo(conn net.Conn) {
	data := make([]byte, buffer)
	for {
		n, err := conn.Read(data)
		if err != nil {
			return
		}
		if _, err := conn.Write(data[:n]); err != nil {
			return
		}
	}
}

func block(conn net.Conn) {
	data := make([]byte, buffer)
	for {
		n, err := conn.Read(data)
		if err != nil {
			return
		}
		if data[0] == 'B' {
			time.Sleep(50 * time.Millisecond)
		}
		if _, err := conn.Write(data[:n]); err != nil {
			return
		}
	}
}

// cut calls take for each whole message of a stream.
func cut(conn net.Conn, size int, take func([]byte) error) {
	data, have := make([]byte, buffer+size), 0
	for {
		n, err := conn.Read(data[have:])
		if err != nil {
			return
		}
		have += n
		from := 0
		for ; have-from >= size; from += size {
			if take(data[from:from+size]) != nil {
				return
			}
		}
		have = copy(data, data[from:have])
	}
}

func each(conn net.Conn) {
	cut(conn, message, func(one []byte) error {
		_, err := conn.Write(one)
		return err
	})
}

func sink(conn net.Conn) {
	data := make([]byte, piece)
	for {
		if _, err := conn.Read(data); err == io.EOF {
			conn.Write([]byte("!"))
			return
		} else if err != nil {
			return
		}
	}
}

func produce(conn net.Conn) {
	zeros := make([]byte, piece)
	if _, err := conn.Read(zeros[:1]); err != nil {
		return
	}
	zeros[0] = 0
	for left := count; left > 0; left -= piece {
		n := piece
		if left < n {
			n = left
		}
		if _, err := conn.Write(zeros[:n]); err != nil {
			return
		}
	}
	conn.Read(zeros[:1])
}

var (
	lock  sync.RWMutex
	all   = map[net.Conn]chan []byte{}
	order []net.Conn
	ready int
)

// broadcast gives each connection a goroutine that writes, so that a slow one does not hold up the others.
func broadcast(conn net.Conn) {
	outbox := make(chan []byte, 1024)
	lock.Lock()
	all[conn] = outbox
	lock.Unlock()
	go func() {
		for one := range outbox {
			conn.Write(one)
		}
	}()
	cut(conn, bytes, func(one []byte) error {
		told := append([]byte(nil), one...)
		lock.RLock()
		defer lock.RUnlock()
		for _, to := range all {
			to <- told
		}
		return nil
	})
	lock.Lock()
	delete(all, conn)
	close(outbox)
	lock.Unlock()
}

// push is begun by the last connection's byte; four goroutines write to the connections themselves.
func push(conn net.Conn) {
	data := make([]byte, 16)
	for {
		n, err := conn.Read(data)
		if err != nil {
			return
		}
		lock.Lock()
		ready += n
		begins := ready == connections
		lock.Unlock()
		for first := 0; begins && first < threads; first++ {
			go func(first int) {
				var one [message]byte
				for k := 0; k < count; k++ {
					for i := range one {
						one[i] = byte((k + i) % 251)
					}
					for i := first; i < connections; i += threads {
						if _, err := order[i].Write(one[:]); err != nil {
							return
						}
					}
				}
			}(first)
		}
	}
}

func main() {
	workers := 1
	keys := map[string]*int{"workers": &workers, "connections": &connections, "count": &count, "bytes": &bytes}
	mode := "none"
	if len(os.Args) > 1 {
		mode = os.Args[1]
		for _, word := range os.Args[2:] {
			if key, value, found := strings.Cut(word, "="); found && keys[key] != nil {
				*keys[key], _ = strconv.Atoi(value)
			}
		}
	}
	modes := map[string]func(net.Conn){"echo": echo, "block": block, "each": each, "sink": sink, "produce": produce,
		"broadcast": broadcast, "push": push}
	if mode == "version" {
		fmt.Println(runtime.Version())
		return
	}
	serve := modes[mode]
	if serve == nil {
		unsupported("no such mode")
	}
	runtime.GOMAXPROCS(workers)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	for {
		conn, err := listener.Accept()
		if err != nil {
			continue
		}
		if mode == "push" {
			lock.Lock()
			order = append(order, conn)
			lock.Unlock()
		}
		go func() {
			serve(conn)
			conn.Close()
		}()
	}
}
