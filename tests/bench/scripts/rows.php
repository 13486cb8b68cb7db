<?php
header("Content-Type: text/html; charset=utf-8");
$title = "Orders & more";
?>
<!DOCTYPE html>
<title><?= htmlspecialchars($title) ?></title>
<table>
<tr><th>No.</th><th>Customer</th><th>Price</th></tr>
<?php for ($number = 1; $number <= 50; $number++):
  $customer = "Smith & Sons <no. " . $number . ">, called \"Smith's\"";
  $price = sprintf("%d.%02d", $number * 37 % 100, $number * 59 % 100) ?>
<tr><td><?= htmlspecialchars($number) ?></td><td><?= htmlspecialchars($customer) ?></td><td><?= htmlspecialchars($price) ?></td></tr>
<?php endfor ?>
</table>
