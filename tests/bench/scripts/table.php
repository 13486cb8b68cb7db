<?php
header("Content-Type: text/html; charset=utf-8");
echo "<!DOCTYPE html>\n<title>Orders</title>\n<table>\n<tr><th>No.</th><th>Customer</th><th>Price</th></tr>\n";
for ($number = 1; $number <= 50; $number++) {
    $customer = htmlspecialchars("Smith & Sons <no. " . $number . ">, called \"Smith's\"");
    $price = sprintf("%d.%02d", $number * 37 % 100, $number * 59 % 100);
    echo "<tr><td>" . $number . "</td><td>" . $customer . "</td><td>" . $price . "</td></tr>\n";
}
echo "</table>\n";
