<?php
header("Content-Type: text/plain; charset=utf-8");
$body = file_get_contents("php://input");
echo strlen($body) . " bytes, the last of them " . substr($body, -10) . "\n";
