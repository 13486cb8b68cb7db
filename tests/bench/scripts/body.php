<?php
header("Content-Type: text/plain; charset=utf-8");
$line = substr(str_repeat("0123456789", 10), 0, 99) . "\n";
echo str_repeat($line, 1024);
