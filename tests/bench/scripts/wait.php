<?php
// A hello, after as many seconds as the query string says.
$seconds = (float) $_SERVER["QUERY_STRING"];
if ($seconds) {
    usleep((int) ($seconds * 1000000));
}
echo "Hello, world!\n";
