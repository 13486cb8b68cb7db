<?php
$status = function_exists("opcache_get_status") ? opcache_get_status(false) : false;
$opcache = $status !== false && $status["opcache_enabled"];
echo "PHP " . PHP_VERSION . ($opcache ? ", opcache on" : ", opcache off");
