// SPDX-License-Identifier: Apache-2.0
package suite;

import static suite.Suite.want;
import static suite.Suite.wantError;
import static suite.Suite.wantSame;

import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.WatchedEvent;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.Watcher.Event.KeeperState;
import org.apache.zookeeper.ZooDefs;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.ACL;
import org.apache.zookeeper.data.Id;
import org.apache.zookeeper.data.Stat;

/** What the Java client of any version expects of a ZooKeeper. API of 3.4. */
public final class ZooKeeperSuite {
    static String addr;
    static final List<ACL> OPEN = ZooDefs.Ids.OPEN_ACL_UNSAFE;

    static ZooKeeper connect() throws Exception {
        return connect(0, null);
    }

    static ZooKeeper connect(long session, byte[] password) throws Exception {
        final CountDownLatch connected = new CountDownLatch(1);
        Watcher watcher = event -> {
            if (event.getState() == KeeperState.SyncConnected || event.getState() == KeeperState.Expired) {
                connected.countDown();
            }
        };
        ZooKeeper zk = password == null
                ? new ZooKeeper(addr, 15_000, watcher)
                : new ZooKeeper(addr, 15_000, watcher, session, password);
        want(connected.await(15, TimeUnit.SECONDS), "no connection to " + addr);
        return zk;
    }

    static String root(ZooKeeper zk, String name) throws Exception {
        return zk.create("/java-" + name + "-" + System.nanoTime(), new byte[0], OPEN, CreateMode.PERSISTENT);
    }

    static final class Events implements Watcher {
        final BlockingQueue<WatchedEvent> queue = new LinkedBlockingQueue<>();

        @Override
        public void process(WatchedEvent event) {
            if (event.getType() != EventType.None) {
                queue.add(event);
            }
        }

        void next(EventType type, String path) throws Exception {
            WatchedEvent event = queue.poll(15, TimeUnit.SECONDS);
            want(event != null, "no " + type + " " + path);
            wantSame(event.getType() + " " + event.getPath(), type + " " + path);
        }
    }

    static void data() throws Exception {
        ZooKeeper zk = connect();
        String r = root(zk, "data");
        wantSame(zk.setData(r, "1".getBytes(), 0).getVersion(), 1);
        wantError(KeeperException.BadVersionException.class, () -> zk.setData(r, null, 0));
        Stat stat = new Stat();
        wantSame(new String(zk.getData(r, false, stat)), "1");
        wantSame(stat.getMzxid() > stat.getCzxid(), true);
        wantError(KeeperException.NodeExistsException.class, () -> zk.create(r, null, OPEN, CreateMode.PERSISTENT));
        wantError(KeeperException.NoNodeException.class, () -> zk.create(r + "/a/b", null, OPEN, CreateMode.PERSISTENT));
        wantSame(zk.create(r + "/s-", null, OPEN, CreateMode.PERSISTENT_SEQUENTIAL), r + "/s-0000000000");
        wantSame(zk.create(r + "/s-", null, OPEN, CreateMode.EPHEMERAL_SEQUENTIAL), r + "/s-0000000001");
        wantError(KeeperException.NotEmptyException.class, () -> { zk.delete(r, -1); return null; });
        wantError(KeeperException.NoChildrenForEphemeralsException.class,
                () -> zk.create(r + "/s-0000000001/x", null, OPEN, CreateMode.PERSISTENT));
        wantSame(zk.getChildren(r, false, stat).size(), 2);
        wantSame(stat.getCversion(), 2);
        wantSame(zk.exists(r + "/s-0000000001", false).getEphemeralOwner(), zk.getSessionId());
        byte[] big = new byte[1_000_000];
        zk.setData(r, big, -1);
        wantSame(zk.getData(r, false, null).length, big.length);
        zk.delete(r + "/s-0000000000", -1);
        zk.delete(r + "/s-0000000001", -1);
        zk.delete(r, -1);
        want(zk.exists(r, false) == null, "still there");
        zk.close();
    }

    static void watches() throws Exception {
        ZooKeeper zk = connect();
        ZooKeeper other = connect();
        String r = root(zk, "watch");
        Events events = new Events();
        zk.exists(r + "/x", events);
        zk.getChildren(r, events);
        other.create(r + "/x", null, OPEN, CreateMode.EPHEMERAL);
        events.next(EventType.NodeCreated, r + "/x");
        events.next(EventType.NodeChildrenChanged, r);
        zk.getData(r + "/x", events, null);
        other.setData(r + "/x", null, -1);
        events.next(EventType.NodeDataChanged, r + "/x");
        zk.getData(r + "/x", events, null);
        zk.getChildren(r + "/x", events);
        other.close();
        events.next(EventType.NodeDeleted, r + "/x");
        zk.delete(r, -1);
        zk.close();
        want(events.queue.isEmpty(), "more events " + events.queue);
    }

    static void multi() throws Exception {
        ZooKeeper zk = connect();
        String r = root(zk, "multi");
        List<OpResult> results = zk.multi(Arrays.asList(
                Op.create(r + "/a", null, OPEN, CreateMode.PERSISTENT), Op.setData(r + "/a", "1".getBytes(), 0),
                Op.check(r + "/a", 1), Op.delete(r + "/a", 1), Op.create(r + "/b", null, OPEN, CreateMode.EPHEMERAL)));
        wantSame(results.size(), 5);
        try {
            zk.multi(Arrays.asList(Op.delete(r + "/b", -1), Op.check(r + "/none", -1), Op.delete(r + "/x", -1)));
            throw new AssertionError("taken");
        } catch (KeeperException.NoNodeException e) {
            List<Integer> codes = new ArrayList<>();
            for (OpResult result : e.getResults()) {
                codes.add(((OpResult.ErrorResult) result).getErr());
            }
            wantSame(codes, Arrays.asList(0, -101, -2));
        }
        want(zk.exists(r + "/b", false) != null, "half a multi");
        zk.delete(r + "/b", -1);
        zk.delete(r, -1);
        zk.close();
    }

    static void access() throws Exception {
        ZooKeeper zk = connect();
        ZooKeeper owner = connect();
        owner.addAuthInfo("digest", "me:secret".getBytes());
        String r = root(zk, "acl");
        owner.create(r + "/p", "x".getBytes(), ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT);
        wantError(KeeperException.NoAuthException.class, () -> zk.getData(r + "/p", false, null));
        wantError(KeeperException.NoAuthException.class, () -> zk.setData(r + "/p", null, -1));
        wantError(KeeperException.InvalidACLException.class,
                () -> zk.create(r + "/q", null, ZooDefs.Ids.CREATOR_ALL_ACL, CreateMode.PERSISTENT));
        wantSame(owner.getACL(r + "/p", new Stat()).get(0).getId().getScheme(), "digest");
        owner.setACL(r + "/p", Collections.singletonList(new ACL(ZooDefs.Perms.READ, new Id("ip", "127.0.0.1"))), 0);
        wantSame(new String(zk.getData(r + "/p", false, null)), "x");
        zk.delete(r + "/p", -1);
        zk.delete(r, -1);
        zk.close();
        owner.close();
    }

    static void sessions() throws Exception {
        ZooKeeper zk = connect();
        ZooKeeper watcher = connect();
        String r = root(watcher, "session");
        zk.create(r + "/e", null, OPEN, CreateMode.EPHEMERAL);
        ZooKeeper moved = connect(zk.getSessionId(), zk.getSessionPasswd());
        wantSame(moved.exists(r + "/e", false).getEphemeralOwner(), zk.getSessionId());
        Events events = new Events();
        watcher.exists(r + "/e", events);
        moved.close();
        events.next(EventType.NodeDeleted, r + "/e");
        ZooKeeper dead = connect(moved.getSessionId(), moved.getSessionPasswd());
        wantError(KeeperException.SessionExpiredException.class, () -> dead.exists(r, false));
        watcher.delete(r, -1);
        watcher.close();
        dead.close();
        zk.close();
    }

    static void pipeline() throws Exception {
        ZooKeeper zk = connect();
        String r = root(zk, "pipe");
        int n = 1000;
        List<Integer> order = Collections.synchronizedList(new ArrayList<>());
        CountDownLatch done = new CountDownLatch(n);
        for (int i = 0; i < n; i++) {
            zk.create(r + "/" + i, new byte[100], OPEN, CreateMode.PERSISTENT, (rc, path, ctx, name) -> {
                order.add(rc == 0 ? (Integer) ctx : -1);
                done.countDown();
            }, i);
        }
        want(done.await(30, TimeUnit.SECONDS), "not all answered");
        for (int i = 0; i < n; i++) {
            wantSame(order.get(i), i);
        }
        zk.sync(r, (rc, path, ctx) -> { }, null);
        for (String child : zk.getChildren(r, false)) {
            zk.delete(r + "/" + child, -1);
        }
        zk.delete(r, -1);
        zk.close();
    }

    static void chroot() throws Exception {
        ZooKeeper zk = connect();
        String r = root(zk, "chroot");
        String plain = addr;
        addr = plain + r;
        try {
            ZooKeeper inside = connect();
            Events events = new Events();
            inside.exists("/x", events);
            inside.create("/x", null, OPEN, CreateMode.EPHEMERAL);
            events.next(EventType.NodeCreated, "/x");
            wantSame(inside.getChildren("/", false), Collections.singletonList("x"));
            inside.close();
        } finally {
            addr = plain;
        }
        zk.delete(r, -1);
        zk.close();
    }

    public static void main(String[] args) throws Exception {
        addr = args[0];
        Suite suite = new Suite();
        suite.check("data", ZooKeeperSuite::data);
        suite.check("watches", ZooKeeperSuite::watches);
        suite.check("multi", ZooKeeperSuite::multi);
        suite.check("access", ZooKeeperSuite::access);
        suite.check("sessions", ZooKeeperSuite::sessions);
        suite.check("pipeline", ZooKeeperSuite::pipeline);
        suite.check("chroot", ZooKeeperSuite::chroot);
        for (String more : new String[] {"suite.From35", "suite.From36"}) {
            try {
                Class.forName(more).getMethod("add", Suite.class).invoke(null, suite);
            } catch (ClassNotFoundException e) {
                continue;
            }
        }
        suite.end();
    }
}
