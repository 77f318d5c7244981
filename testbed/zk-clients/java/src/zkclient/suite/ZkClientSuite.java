// SPDX-License-Identifier: Apache-2.0
package suite;

import static suite.Suite.eventually;
import static suite.Suite.want;
import static suite.Suite.wantError;
import static suite.Suite.wantSame;

import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import org.I0Itec.zkclient.IZkDataListener;
import org.I0Itec.zkclient.ZkClient;
import org.I0Itec.zkclient.exception.ZkNoNodeException;
import org.I0Itec.zkclient.exception.ZkNodeExistsException;

/** What zkclient (Dubbo 2.5 and 2.6 may use it) expects of a ZooKeeper. */
public final class ZkClientSuite {
    static String addr;

    static ZkClient connect() {
        return new ZkClient(addr, 10_000, 10_000);
    }

    static void basics() throws Exception {
        ZkClient zk = connect();
        String r = "/zkclient-" + System.nanoTime();
        zk.createPersistent(r + "/a/b", true);
        zk.createEphemeral(r + "/e", "text");
        wantSame(zk.readData(r + "/e"), "text");
        wantSame(zk.createPersistentSequential(r + "/s-", null), r + "/s-0000000002");
        wantError(ZkNodeExistsException.class, () -> { zk.createEphemeral(r + "/e"); return null; });
        wantError(ZkNoNodeException.class, () -> { zk.createEphemeral(r + "/none/x"); return null; });
        wantSame(zk.countChildren(r), 3);
        want(zk.deleteRecursive(r), "not deleted");
        zk.close();
    }

    static void listeners() throws Exception {
        ZkClient zk = connect();
        ZkClient other = connect();
        String r = "/zkclient-" + System.nanoTime();
        List<Integer> sizes = new CopyOnWriteArrayList<>();
        List<String> data = new CopyOnWriteArrayList<>();
        zk.subscribeChildChanges(r, (parent, children) -> sizes.add(children == null ? -1 : children.size()));
        zk.subscribeDataChanges(r, new IZkDataListener() {
            @Override
            public void handleDataChange(String path, Object value) {
                data.add(String.valueOf(value));
            }

            @Override
            public void handleDataDeleted(String path) {
                data.add("deleted");
            }
        });
        other.createPersistent(r);
        eventually("created", () -> !sizes.isEmpty());
        other.createEphemeral(r + "/x");
        eventually("child", () -> sizes.get(sizes.size() - 1) == 1);
        other.writeData(r, "new");
        eventually("data", () -> data.contains("new"));
        other.close();
        eventually("child gone", () -> sizes.get(sizes.size() - 1) == 0);
        zk.delete(r);
        eventually("deleted", () -> data.contains("deleted"));
        zk.close();
    }

    public static void main(String[] args) {
        addr = args[0];
        Suite suite = new Suite();
        suite.check("basics", ZkClientSuite::basics);
        suite.check("listeners", ZkClientSuite::listeners);
        suite.end();
    }
}
