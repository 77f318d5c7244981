// SPDX-License-Identifier: Apache-2.0
package suite;

import static suite.Suite.want;
import static suite.Suite.wantSame;

import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import org.apache.zookeeper.AddWatchMode;
import org.apache.zookeeper.CreateMode;
import org.apache.zookeeper.Op;
import org.apache.zookeeper.OpResult;
import org.apache.zookeeper.Watcher.Event.EventType;
import org.apache.zookeeper.ZooKeeper;

/** What came with 3.6 and 3.7: persistent watches, multi of reads, lists of ephemerals, counts, whoAmI. */
public final class From36 {
    public static void add(Suite suite) {
        suite.check("persistent watches", From36::persistent);
        suite.check("reads", From36::reads);
    }

    static void persistent() throws Exception {
        ZooKeeper zk = ZooKeeperSuite.connect();
        ZooKeeper other = ZooKeeperSuite.connect();
        String r = ZooKeeperSuite.root(zk, "persistent");
        ZooKeeperSuite.Events flat = new ZooKeeperSuite.Events();
        ZooKeeperSuite.Events deep = new ZooKeeperSuite.Events();
        zk.addWatch(r, flat, AddWatchMode.PERSISTENT);
        // On a connection of its own: the client of 3.8 tells a recursive watcher of child lists that another one asked for.
        ZooKeeper third = ZooKeeperSuite.connect();
        third.addWatch(r, deep, AddWatchMode.PERSISTENT_RECURSIVE);
        for (int i = 0; i < 2; i++) {
            other.create(r + "/x", null, ZooKeeperSuite.OPEN, CreateMode.PERSISTENT);
            other.create(r + "/x/y", null, ZooKeeperSuite.OPEN, CreateMode.PERSISTENT);
            other.setData(r, null, -1);
            other.delete(r + "/x/y", -1);
            other.delete(r + "/x", -1);
            flat.next(EventType.NodeChildrenChanged, r);
            flat.next(EventType.NodeDataChanged, r);
            flat.next(EventType.NodeChildrenChanged, r);
            deep.next(EventType.NodeCreated, r + "/x");
            deep.next(EventType.NodeCreated, r + "/x/y");
            deep.next(EventType.NodeDataChanged, r);
            deep.next(EventType.NodeDeleted, r + "/x/y");
            deep.next(EventType.NodeDeleted, r + "/x");
        }
        other.delete(r, -1);
        other.close();
        third.close();
        zk.close();
    }

    static void reads() throws Exception {
        ZooKeeper zk = ZooKeeperSuite.connect();
        String r = ZooKeeperSuite.root(zk, "reads");
        zk.create(r + "/e", "x".getBytes(), ZooKeeperSuite.OPEN, CreateMode.EPHEMERAL);
        wantSame(zk.getEphemerals(r), Collections.singletonList(r + "/e"));
        wantSame(zk.getAllChildrenNumber(r), 1);
        List<OpResult> results = zk.multi(Arrays.asList(Op.getData(r + "/e"), Op.getChildren(r), Op.getData(r + "/none")));
        wantSame(new String(((OpResult.GetDataResult) results.get(0)).getData()), "x");
        wantSame(((OpResult.GetChildrenResult) results.get(1)).getChildren(), Collections.singletonList("e"));
        wantSame(((OpResult.ErrorResult) results.get(2)).getErr(), -101);
        try {
            Object who = ZooKeeper.class.getMethod("whoAmI").invoke(zk);
            want(who.toString().contains("127.0.0.1"), who.toString());
        } catch (NoSuchMethodException e) {
            want(true, "before 3.7");
        }
        zk.delete(r + "/e", -1);
        zk.delete(r, -1);
        zk.close();
    }
}
