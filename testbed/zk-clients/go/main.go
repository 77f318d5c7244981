// SPDX-License-Identifier: Apache-2.0

// main HOST:PORT: what go-zk, an independent client, expects of a ZooKeeper.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/go-zookeeper/zk"
)

var addr string

type quiet struct{}

func (quiet) Printf(string, ...interface{}) {}

func connect() *zk.Conn {
	conn, _, err := zk.Connect([]string{addr}, 10*time.Second, zk.WithLogger(quiet{}))
	must(err)
	return conn
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func want(is bool, what string, args ...interface{}) {
	if !is {
		panic(fmt.Errorf(what, args...))
	}
}

func wantErr(err, wanted error) { want(errors.Is(err, wanted), "%v instead of %v", err, wanted) }

var open = zk.WorldACL(zk.PermAll)

func root(c *zk.Conn, name string) string {
	path := fmt.Sprintf("/go-%s-%d-%d", name, os.Getpid(), time.Now().UnixNano())
	_, err := c.Create(path, []byte("root"), 0, open)
	must(err)
	return path
}

func event(events <-chan zk.Event, kind zk.EventType) {
	select {
	case e := <-events:
		want(e.Type == kind, "event %v instead of %v", e, kind)
	case <-time.After(15 * time.Second):
		panic(fmt.Errorf("no %v", kind))
	}
}

func data(c *zk.Conn) {
	r := root(c, "data")
	_, err := c.Set(r, []byte("1"), 0)
	must(err)
	_, err = c.Set(r, nil, 0)
	wantErr(err, zk.ErrBadVersion)
	got, stat, err := c.Get(r)
	must(err)
	want(bytes.Equal(got, []byte("1")) && stat.Version == 1, "%q %v", got, stat)
	_, err = c.Create(r, nil, 0, open)
	wantErr(err, zk.ErrNodeExists)
	_, err = c.Create(r+"/a/b", nil, 0, open)
	wantErr(err, zk.ErrNoNode)
	name, err := c.Create(r+"/s-", nil, zk.FlagSequence|zk.FlagEphemeral, open)
	must(err)
	want(name == r+"/s-0000000000", "%s", name)
	wantErr(c.Delete(r, -1), zk.ErrNotEmpty)
	must(c.Delete(name, -1))
	must(c.Delete(r, -1))
	ok, _, err := c.Exists(r)
	must(err)
	want(!ok, "still there")
}

func watches(c *zk.Conn) {
	r := root(c, "watch")
	_, _, created, err := c.ExistsW(r + "/x")
	must(err)
	_, _, children, err := c.ChildrenW(r)
	must(err)
	other := connect()
	_, err = other.Create(r+"/x", nil, zk.FlagEphemeral, open)
	must(err)
	event(created, zk.EventNodeCreated)
	event(children, zk.EventNodeChildrenChanged)
	_, _, changed, err := c.GetW(r + "/x")
	must(err)
	_, err = other.Set(r+"/x", []byte("1"), -1)
	must(err)
	event(changed, zk.EventNodeDataChanged)
	_, _, gone, err := c.ExistsW(r + "/x")
	must(err)
	other.Close()
	event(gone, zk.EventNodeDeleted)
	must(c.Delete(r, -1))
}

func multi(c *zk.Conn) {
	r := root(c, "multi")
	results, err := c.Multi(
		&zk.CreateRequest{Path: r + "/a", Acl: open},
		&zk.SetDataRequest{Path: r + "/a", Data: []byte("1"), Version: 0},
		&zk.CheckVersionRequest{Path: r + "/a", Version: 1},
		&zk.DeleteRequest{Path: r + "/a", Version: 1})
	must(err)
	want(len(results) == 4, "%v", results)
	_, err = c.Multi(&zk.CreateRequest{Path: r + "/b", Acl: open}, &zk.DeleteRequest{Path: r + "/none", Version: -1})
	wantErr(err, zk.ErrNoNode)
	ok, _, _ := c.Exists(r + "/b")
	want(!ok, "half a multi")
	must(c.Delete(r, -1))
}

func access(c *zk.Conn) {
	r := root(c, "acl")
	owner := connect()
	defer owner.Close()
	must(owner.AddAuth("digest", []byte("me:secret")))
	_, err := owner.Create(r+"/p", nil, 0, zk.AuthACL(zk.PermAll))
	must(err)
	_, _, err = c.Get(r + "/p")
	wantErr(err, zk.ErrNoAuth)
	acl, _, err := owner.GetACL(r + "/p")
	must(err)
	want(acl[0] == zk.DigestACL(zk.PermAll, "me", "secret")[0], "%v", acl)
	_, err = owner.SetACL(r+"/p", open, 0)
	must(err)
	_, _, err = c.Get(r + "/p")
	must(err)
	must(c.Delete(r+"/p", -1))
	must(c.Delete(r, -1))
}

func containersAndTTL(c *zk.Conn) {
	r := root(c, "container")
	name, err := c.CreateContainer(r+"/c", nil, 4, open)
	must(err)
	_, stat, err := c.Get(name)
	must(err)
	want(stat.EphemeralOwner == 0, "%v", stat)
	// A server without extended types refuses this one.
	name, err = c.CreateTTL(r+"/t", nil, 5, open, time.Hour)
	must(err)
	want(name == r+"/t", "%s", name)
	children, _, err := c.Children(r)
	must(err)
	for _, child := range children {
		must(c.Delete(r+"/"+child, -1))
	}
	must(c.Delete(r, -1))
}

func locks(c *zk.Conn) {
	r := root(c, "lock")
	var group sync.WaitGroup
	inside, most := 0, 0
	var guard sync.Mutex
	for i := 0; i < 5; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			mine := connect()
			defer mine.Close()
			lock := zk.NewLock(mine, r+"/lock", open)
			must(lock.Lock())
			guard.Lock()
			inside++
			if inside > most {
				most = inside
			}
			guard.Unlock()
			_, err := mine.Sync(r)
			must(err)
			guard.Lock()
			inside--
			guard.Unlock()
			must(lock.Unlock())
		}()
	}
	group.Wait()
	want(most == 1, "%d hold it", most)
	must(c.Delete(r+"/lock", -1))
	must(c.Delete(r, -1))
}

func many(c *zk.Conn) {
	r := root(c, "many")
	var group sync.WaitGroup
	for w := 0; w < 20; w++ {
		group.Add(1)
		go func(w int) {
			defer group.Done()
			for i := 0; i < 50; i++ {
				_, err := c.Create(fmt.Sprintf("%s/%d-%d", r, w, i), bytes.Repeat([]byte("x"), 400), 0, open)
				must(err)
			}
		}(w)
	}
	group.Wait()
	children, stat, err := c.Children(r)
	must(err)
	want(len(children) == 1000 && stat.NumChildren == 1000, "%d %v", len(children), stat)
	for _, child := range children {
		must(c.Delete(r+"/"+child, -1))
	}
	must(c.Delete(r, -1))
}

func words(*zk.Conn) {
	oks := zk.FLWRuok([]string{addr}, 5*time.Second)
	want(oks[0], "ruok")
	stats, ok := zk.FLWSrvr([]string{addr}, 5*time.Second)
	// go-zk reads the build date of ZooKeeper before 3.8 only.
	want(ok || strings.Contains(stats[0].Error.Error(), "unable to parse"), "%v", stats[0].Error)
}

func main() {
	addr = os.Args[1]
	tests := []struct {
		name string
		run  func(*zk.Conn)
	}{{"data", data}, {"watches", watches}, {"multi", multi}, {"access", access}, {"containers", containersAndTTL},
		{"locks", locks}, {"many", many}, {"words", words}}
	failed := 0
	for _, test := range tests {
		func() {
			c := connect()
			defer c.Close()
			defer func() {
				if cause := recover(); cause != nil {
					failed++
					fmt.Println("FAILED", test.name, cause)
				}
			}()
			test.run(c)
		}()
	}
	fmt.Printf("%d passed, %d failed\n", len(tests)-failed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}
