<?php
header("Content-Type: text/html; charset=utf-8");
echo "<!DOCTYPE html>\n<title>Stock</title>\n<table>\n<tr><th>No.</th><th>Article</th><th>Price</th></tr>\n";
for ($number = 1; $number <= 50; $number++) {
    $price = sprintf("%d.%02d", $number * 37 % 100, $number * 59 % 100);
    echo "<tr><td>" . $number . "</td><td>Article " . $number . "</td><td>" . $price . "</td></tr>\n";
}
echo "</table>\n";
