// SPDX-License-Identifier: Apache-2.0
package suite;

import static suite.Suite.want;
import static suite.Suite.wantError;
import static suite.Suite.wantSame;

import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.KeeperException;
import org.apache.zookeeper.Watcher;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.ZooKeeper;
import org.apache.zookeeper.data.Stat;

/** What came with 3.5: create with a Stat, containers, TTL nodes, removal of watches, the config node. */
public final class From35 {
    public static void add(Suite suite) {
        suite.check("create2", From35::create2);
        suite.check("remove watches", From35::removeWatches);
        suite.check("config", From35::config);
    }

    static void create2() throws Exception {
        ZooKeeper zk = ZooKeeperSuite.connect();
        String r = ZooKeeperSuite.root(zk, "create2");
        Stat stat = new Stat();
        zk.create(r + "/a", new byte[3], ZooKeeperSuite.OPEN, CreateMode.EPHEMERAL, stat);
        wantSame(stat.getDataLength(), 3);
        wantSame(stat.getEphemeralOwner(), zk.getSessionId());
        zk.create(r + "/c", null, ZooKeeperSuite.OPEN, CreateMode.CONTAINER, stat);
        wantSame(stat.getEphemeralOwner(), 0L);
        zk.create(r + "/c/x", null, ZooKeeperSuite.OPEN, CreateMode.EPHEMERAL);
        zk.create(r + "/t", null, ZooKeeperSuite.OPEN, CreateMode.PERSISTENT_WITH_TTL, stat, 600_000);
        wantSame(zk.create(r + "/t", null, ZooKeeperSuite.OPEN, CreateMode.PERSISTENT_SEQUENTIAL_WITH_TTL, stat, 600_000),
                r + "/t0000000003");
        for (String path : new String[] {"/a", "/c/x", "/c", "/t", "/t0000000003", ""}) {
            zk.delete(r + path, -1);
        }
        zk.close();
    }

    static void removeWatches() throws Exception {
        ZooKeeper zk = ZooKeeperSuite.connect();
        String r = ZooKeeperSuite.root(zk, "remove");
        ZooKeeperSuite.Events one = new ZooKeeperSuite.Events();
        ZooKeeperSuite.Events two = new ZooKeeperSuite.Events();
        zk.getData(r, one, null);
        zk.getData(r, two, null);
        zk.removeWatches(r, one, Watcher.WatcherType.Data, false);
        one.next(EventType.DataWatchRemoved, r);
        zk.setData(r, null, -1);
        two.next(EventType.NodeDataChanged, r);
        want(one.queue.isEmpty(), "told after removal");
        zk.getChildren(r, one);
        zk.removeAllWatches(r, Watcher.WatcherType.Any, false);
        one.next(EventType.ChildWatchRemoved, r);
        wantError(KeeperException.NoWatcherException.class, () -> {
            zk.removeWatches(r, one, Watcher.WatcherType.Any, false);
            return null;
        });
        zk.delete(r, -1);
        zk.close();
    }

    static void config() throws Exception {
        ZooKeeper zk = ZooKeeperSuite.connect();
        wantSame(zk.getConfig(false, new Stat()).length, 0);
        zk.close();
    }
}
