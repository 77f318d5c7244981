// SPDX-License-Identifier: Apache-2.0
package demo.app;

import com.alipay.sofa.rpc.core.exception.SofaRpcException;
import com.alipay.sofa.rpc.core.invoke.SofaResponseCallback;
import com.alipay.sofa.rpc.core.request.RequestBase;
import java.util.concurrent.CompletableFuture;

/** What a callback invocation brings back, as a future. */
final class Answer extends CompletableFuture<String> implements SofaResponseCallback<String> {
    @Override
    public void onAppResponse(Object answer, String method, RequestBase request) {
        complete((String) answer);
    }

    @Override
    public void onAppException(Throwable thrown, String method, RequestBase request) {
        completeExceptionally(thrown);
    }

    @Override
    public void onSofaException(SofaRpcException error, String method, RequestBase request) {
        completeExceptionally(error);
    }
}
