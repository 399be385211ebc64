#!/bin/sh
# A stream from the local proxy. The last event before [DONE] carries the attestation.
set -eu
curl --silent --show-error --fail --no-buffer http://127.0.0.1:8080/v1/chat/completions \
    --header 'content-type: application/json' \
    --data '{
        "model": "tinychat",
        "stream": true,
        "max_tokens": 16,
        "messages": [{"role": "user", "content": "Who can read my prompt?"}]
    }'
